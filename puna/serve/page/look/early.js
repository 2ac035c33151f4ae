// Set the look before anything is drawn, so that a dark page never flashes white.
try {
  document.documentElement.dataset.look = JSON.parse(localStorage.getItem("puna.settings") ?? "{}").look ?? "auto";
} catch {
  document.documentElement.dataset.look = "auto";
}
