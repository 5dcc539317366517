import { defineConfig } from "vite";

// One entry per page that computes in the browser; `frame` is on every page. A template names its entry:
// {% asset "job.ts" %} looks up the built file and its style sheets in the manifest.
const entries = ["frame.ts", "job.ts", "newjob.ts", "dataset.ts", "viewer.ts", "doctor.ts"];

export default defineConfig({
  root: "webapp/frontend",
  base: "/static/",
  publicDir: false,
  build: {
    outDir: "../static/built",
    emptyOutDir: true,
    manifest: "manifest.json",
    modulePreload: { polyfill: false },
    // A file inlined as a data: address would be refused by the content security policy.
    assetsInlineLimit: 0,
    rolldownOptions: { input: entries.map((name) => `webapp/frontend/${name}`) },
  },
});
