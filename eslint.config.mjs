import tseslint from 'typescript-eslint';
import rxjsX from 'eslint-plugin-rxjs-x';

/** Strict TypeScript and strict rxjs over everything; plain scripts get the rules that need no types. */
export default tseslint.config(
  { ignores: ['dist/', '.samples/', 'coverage/', '.cache/', 'node_modules/'] },
  ...tseslint.configs.recommended,
  {
    files: ['src/**/*.ts', 'test/**/*.ts', 'examples/**/*.ts', 'bench/**/*.ts'],
    extends: [...tseslint.configs.strictTypeChecked, rxjsX.configs.strict],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      // Numbers and bigints read well in messages; nothing else does.
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // An error that was caught is passed on as it came.
      'rxjs-x/throw-error': ['error', { allowThrowingUnknown: true }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
    },
  },
  {
    // In a test an empty stream is a failure, and rejecting with EmptyError is how it shows.
    files: ['test/**/*.ts', 'examples/**/*.ts', 'bench/**/*.ts'],
    rules: { 'rxjs-x/no-ignored-default-value': 'off' },
  },
);
