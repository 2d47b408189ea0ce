// Runs before the page is drawn, so that chosen colours do not come a moment late.

(() => {
  try {
    const chosen = JSON.parse(localStorage.getItem("console.theme"));
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // nothing is remembered
  }
})();
