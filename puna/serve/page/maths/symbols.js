// The words of LaTeX mathematics that stand for one sign, as tables: name and sign, name and sign.

function table(text) {
  const parts = text.trim().split(/\s+/);
  return new Map(parts.map((name, at) => [name, parts[at + 1]]).filter((_, at) => at % 2 === 0));
}

/** Letters: set slanted when they are small. */
export const LETTERS = table(`
  alpha α beta β gamma γ delta δ epsilon ϵ varepsilon ε zeta ζ eta η theta θ vartheta ϑ iota ι kappa κ varkappa ϰ
  lambda λ mu μ nu ν xi ξ omicron ο pi π varpi ϖ rho ρ varrho ϱ sigma σ varsigma ς tau τ upsilon υ phi ϕ varphi φ chi χ psi ψ
  omega ω Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Upsilon Υ Phi Φ Psi Ψ Omega Ω
  ell ℓ hbar ℏ imath ı jmath ȷ aleph ℵ beth ℶ Re ℜ Im ℑ wp ℘ partial ∂ nabla ∇ infty ∞ emptyset ∅ varnothing ∅
  top ⊤ bot ⊥ angle ∠ triangle △ square □ blacksquare ■ diamond ⋄ star ⋆ bigstar ★ checkmark ✓ degree ° prime ′ dots … ldots …
  cdots ⋯ vdots ⋮ ddots ⋱ dotsc … dotsb ⋯ dotsm ⋯ clubsuit ♣ diamondsuit ♢ heartsuit ♡ spadesuit ♠ pounds £ S § P ¶ dag † ddag ‡
  forall ∀ exists ∃ nexists ∄ neg ¬ lnot ¬ complement ∁ flat ♭ sharp ♯ natural ♮ Box □ Diamond ◇ mho ℧ eth ð
`);

/** Operators, relations and arrows. */
export const OPERATORS = table(String.raw`
  pm ± mp ∓ times × div ÷ cdot ⋅ ast ∗ circ ∘ bullet • oplus ⊕ ominus ⊖ otimes ⊗ oslash ⊘ odot ⊙ cap ∩ cup ∪ uplus ⊎ sqcap ⊓ sqcup ⊔
  vee ∨ lor ∨ wedge ∧ land ∧ setminus ∖ smallsetminus ∖ wr ≀ amalg ⨿ dagger † ddagger ‡ ltimes ⋉ rtimes ⋊ bmod mod
  le ≤ leq ≤ leqslant ⩽ ge ≥ geq ≥ geqslant ⩾ ll ≪ gg ≫ ne ≠ neq ≠ equiv ≡ sim ∼ simeq ≃ approx ≈ approxeq ≊ cong ≅ propto ∝ doteq ≐
  prec ≺ succ ≻ preceq ⪯ succeq ⪰ subset ⊂ supset ⊃ subseteq ⊆ supseteq ⊇ subsetneq ⊊ supsetneq ⊋ sqsubseteq ⊑ sqsupseteq ⊒
  in ∈ ni ∋ notin ∉ mid ∣ nmid ∤ parallel ∥ nparallel ∦ perp ⟂ vdash ⊢ dashv ⊣ models ⊨ vDash ⊨ asymp ≍ bowtie ⋈ triangleq ≜ coloneqq ≔
  lesssim ≲ gtrsim ≳ nleq ≰ ngeq ≱ lt < gt > colon :
  to → gets ← leftarrow ← rightarrow → leftrightarrow ↔ Leftarrow ⇐ Rightarrow ⇒ Leftrightarrow ⇔ implies ⟹ impliedby ⟸ iff ⟺
  longleftarrow ⟵ longrightarrow ⟶ longleftrightarrow ⟷ Longleftarrow ⟸ Longrightarrow ⟹ Longleftrightarrow ⟺ mapsto ↦ longmapsto ⟼
  uparrow ↑ downarrow ↓ updownarrow ↕ Uparrow ⇑ Downarrow ⇓ nearrow ↗ searrow ↘ swarrow ↙ nwarrow ↖ hookrightarrow ↪ hookleftarrow ↩
  rightharpoonup ⇀ leftharpoonup ↼ rightleftharpoons ⇌ leadsto ⇝ twoheadrightarrow ↠ therefore ∴ because ∵ surd √ backslash \
  lbrace { rbrace } lbrack [ rbrack ] langle ⟨ rangle ⟩ lceil ⌈ rceil ⌉ lfloor ⌊ rfloor ⌋ lvert | rvert | lVert ‖ rVert ‖ vert | Vert ‖
  lgroup ⟮ rgroup ⟯ ulcorner ⌜ urcorner ⌝ llbracket ⟦ rrbracket ⟧
`);

/** Large operators; those of the second table keep their limits at their side, as integrals do. */
export const LARGE = table(`
  sum ∑ prod ∏ coprod ∐ bigcup ⋃ bigcap ⋂ bigvee ⋁ bigwedge ⋀ bigoplus ⨁ bigotimes ⨂ bigodot ⨀ bigsqcup ⨆ biguplus ⨄
`);
export const INTEGRALS = table("int ∫ iint ∬ iiint ∭ oint ∮ oiint ∯");

/** Functions written upright; those in LIMITS carry their limits below in a display. */
export const FUNCTIONS = new Set(
  (
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh coth exp log ln lg deg dim hom ker arg det gcd inf lim liminf limsup max " +
    "min Pr sup argmax argmin softmax sgn sign rank tr diag erf var cov"
  ).split(" "),
);
export const LIMITS = new Set("det gcd inf lim liminf limsup max min Pr sup argmax argmin".split(" "));

/** Marks over or under something, and whether they stretch. */
export const ACCENTS = new Map(
  Object.entries({
    hat: "^", widehat: "^", check: "ˇ", tilde: "~", widetilde: "~", bar: "¯", overline: "‾", vec: "→", overrightarrow: "→",
    overleftarrow: "←", dot: "˙", ddot: "¨", dddot: "⃛", acute: "´", grave: "`", breve: "˘", mathring: "˚", overbrace: "⏞",
  }),
);
export const UNDERS = new Map(Object.entries({ underline: "_", underbrace: "⏟", underrightarrow: "→" }));
export const STRETCHED = new Set("widehat widetilde overline overrightarrow overleftarrow overbrace underline underbrace underrightarrow".split(" "));

/** Spaces, in em. */
export const SPACES = new Map(
  Object.entries({ ",": 0.167, ":": 0.222, ">": 0.222, ";": 0.278, " ": 0.25, "!": -0.1, quad: 1, qquad: 2, enspace: 0.5, thinspace: 0.167, "~": 0.25 }),
);

/** Changes of the alphabet: the name in letters.js, or "upright". */
export const ALPHABET_OF = new Map(
  Object.entries({
    mathbf: "bold", boldsymbol: "bolditalic", bm: "bolditalic", mathbb: "double", mathcal: "script", mathscr: "script", mathfrak: "fraktur",
    mathsf: "sans", mathtt: "mono", mathrm: "upright", mathit: "italic", mathnormal: "italic", Bbb: "double", bold: "bold",
  }),
);

export const TEXTS = new Set("text textrm textnormal textsf textup mbox hbox textbf textit texttt mathop".split(" "));

/** Fences of matrices and their relatives. */
export const ENVIRONMENTS = new Map(
  Object.entries({
    matrix: ["", ""], smallmatrix: ["", ""], pmatrix: ["(", ")"], bmatrix: ["[", "]"], Bmatrix: ["{", "}"], vmatrix: ["|", "|"], Vmatrix: ["‖", "‖"],
    array: ["", ""], cases: ["{", ""], rcases: ["", "}"], aligned: ["", ""], align: ["", ""], alignat: ["", ""], split: ["", ""], gather: ["", ""],
    gathered: ["", ""], equation: ["", ""], multline: ["", ""], eqnarray: ["", ""], substack: ["", ""],
  }),
);
