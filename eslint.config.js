import js from "@eslint/js";

export default [
  {
    files: ["static/**/*.js"],
    languageOptions: {
      sourceType: "script",
      globals: Object.fromEntries(
        [
          "DOMParser",
          "Event",
          "Intl",
          "MutationObserver",
          "URL",
          "document",
          "fetch",
          "localStorage",
          "location",
          "navigator",
          "setTimeout",
        ].map((name) => [name, "readonly"]),
      ),
    },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      ...js.configs.recommended.rules,
      "arrow-body-style": "error",
      "consistent-return": "error",
      eqeqeq: "error",
      "func-style": ["error", "declaration"],
      "max-lines": ["error", 200],
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-param-reassign": "error",
      "no-shadow": "error",
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": "error",
      "prefer-template": "error",
      strict: ["error", "global"],
      // Text from a page must not become HTML.
      "no-restricted-properties": [
        "error",
        ...["innerHTML", "outerHTML", "insertAdjacentHTML", "write"].map((property) => ({ property })),
      ],
    },
  },
];
