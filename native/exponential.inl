// e^x; 0 below -88. Source: Cephes, expf.c (Moshier), range reduction and polynomial.
inline F exponential(F x) {
  x = max(splat(-88.0f), min(splat(88.0f), x));
  const I n = nearest(x * splat(1.44269504088896341f));
  const F whole = to_float(n);
  F r = fnma(whole, splat(0.693359375f), x);
  r = fnma(whole, splat(-2.12194440e-4f), r);
  F p = splat(1.9875691500e-4f);
  p = fma(p, r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  p = fma(p, r * r, r + splat(1.0f));
  return p * power_of_two(n);
}
inline float exponential(float x) { return largest(exponential(splat(x))); }
