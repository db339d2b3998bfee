const COLOURS = [
  "color",
  "color-mix",
  "hsl",
  "hsla",
  "hwb",
  "lab",
  "lch",
  "light-dark",
  "oklab",
  "oklch",
  "rgb",
  "rgba",
];

export default {
  extends: "stylelint-config-standard",
  reportDescriptionlessDisables: true,
  reportNeedlessDisables: true,
  rules: {
    "color-named": "never",
    "color-no-hex": true,
    "declaration-no-important": true,
    "function-disallowed-list": COLOURS,
    "selector-max-id": 0,
    "unit-disallowed-list": ["px", "pt", "ms", "s"],

    "custom-property-empty-line-before": null,
    "hue-degree-notation": "number",

    // Rules stand in the order of the page and its parts, not of their specificity: layers decide between files.
    "no-descending-specificity": null,
    // WebKit knows it with the prefix only.
    "property-no-vendor-prefix": [true, { ignoreProperties: ["-webkit-text-size-adjust"] }],
  },
  overrides: [
    {
      files: ["static/tokens.css"],
      rules: { "function-disallowed-list": null, "unit-disallowed-list": null },
    },
  ],
};
