// On every page: style, theme, keys, times in the reader's own time zone, and how htmx refreshes parts of a page.
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/forms.css";
import "./styles/frame.css";
import "./styles/pages.css";
import htmx from "htmx.org";
import { bindFrameKeys } from "./shared/keys";
import { showLocalTimes } from "./shared/times";

function bindTheme(): void {
  for (const input of document.querySelectorAll<HTMLInputElement>('input[name="theme"]')) {
    input.addEventListener("change", () => {
      // The server reads this cookie, so that the next page is painted right from the start.
      document.cookie = `theme=${input.value}; path=/; max-age=31536000; samesite=lax`;
      if (input.value) document.documentElement.dataset["theme"] = input.value;
      else delete document.documentElement.dataset["theme"];
      document.dispatchEvent(new CustomEvent("theme"));
    });
  }
}

// A refresh that went wrong keeps the old rows; one that was sent to the sign-in page goes there.
function bindRefreshes(): void {
  htmx.config.includeIndicatorCSS = false;
  // The tab is hidden: the next refresh after it is shown again brings everything.
  document.addEventListener("htmx:before:request", (event) => {
    if (document.hidden) event.preventDefault();
  });
  document.addEventListener("htmx:before:swap", (event) => {
    const response = (event as CustomEvent).detail?.ctx?.response;
    if (!response) return;
    const raw: Response | undefined = response.raw;
    if (raw?.redirected && new URL(raw.url).pathname.startsWith("/sign-in")) {
      event.preventDefault();
      location.assign(raw.url);
    } else if (response.status >= 400 && response.status !== 422) {
      event.preventDefault();
    }
  });
  document.addEventListener("htmx:after:swap", () => showLocalTimes());
}

bindTheme();
bindFrameKeys();
bindRefreshes();
showLocalTimes();
