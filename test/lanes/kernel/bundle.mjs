import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';

import { build } from 'esbuild';

import { GUEST, ROOT } from './paths.mjs';

/**
 * Bundles TypeScript for the guest: one file that node reads once. Loading hundreds of modules, or transforming them,
 * takes minutes on an emulated processor.
 */

/** In the guest `vitest` is a thin stand-in on the same runner and the same matchers. */
const VITEST = join(GUEST, 'vitest.mjs');

/**
 * `import.meta.url` keeps meaning the source file, so that `new URL('./worker.mjs', import.meta.url)` finds the file
 * in the checkout (which the guest sees) and not a place beside the bundle.
 *
 * @type {import('esbuild').Plugin}
 */
const keepSourceUrls = {
  name: 'keep-source-urls',
  setup(setup) {
    setup.onLoad({ filter: /\.m?[jt]s$/ }, ({ path }) => {
      if (!path.startsWith(ROOT) || path.includes('/node_modules/')) return undefined;
      const source = readFileSync(path, 'utf8');
      if (!source.includes('import.meta.')) return undefined;
      const contents = source
        .replaceAll('import.meta.url', JSON.stringify(pathToFileURL(path).href))
        .replaceAll('import.meta.dirname', JSON.stringify(dirname(path)))
        .replaceAll('import.meta.filename', JSON.stringify(path));
      return { contents, loader: path.endsWith('.ts') ? 'ts' : 'js', resolveDir: dirname(path) };
    });
  },
};

/** @type {import('esbuild').BuildOptions} */
const COMMON = {
  absWorkingDir: ROOT,
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  sourcemap: 'linked',
  sourcesContent: false,
  // Native code cannot be bundled; the guest resolves it from the checkout's node_modules.
  external: ['koffi', '@koromix/*', '*.node', 'esbuild'],
  plugins: [keepSourceUrls],
  // CommonJS dependencies inside the bundle ask for node's own modules through require().
  banner: { js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);" },
  outExtension: { '.js': '.mjs' },
  logLevel: 'silent',
};

/**
 * Bundles all test files with the runner into `<folder>/tests.mjs`.
 *
 * @param {readonly string[]} files relative to the repository's root
 * @param {string} folder inside the checkout, so that node finds node_modules from there
 * @returns {Promise<string>} the bundle's path
 */
export async function bundleTests(files, folder) {
  const loaders = files.map((file) => `${JSON.stringify(file)}: () => import(${JSON.stringify(`./${file}`)}),`);
  const entry = [
    `import { runTests } from ${JSON.stringify(`./${relative(ROOT, join(GUEST, 'runner.mjs'))}`)};`,
    `await runTests(${JSON.stringify(ROOT)}, {\n${loaders.join('\n')}\n});`,
  ].join('\n');
  const outfile = join(folder, 'tests.mjs');
  await build({
    ...COMMON,
    stdin: { contents: entry, resolveDir: ROOT, sourcefile: 'tests-entry.mjs', loader: 'js' },
    alias: { vitest: VITEST },
    outfile,
  });
  return outfile;
}

/**
 * Bundles programs, each into a file of its own: `a/b.ts` becomes `<folder>/a/b.mjs`.
 *
 * @param {readonly string[]} files relative to the repository's root
 * @param {string} folder
 */
export async function bundlePrograms(files, folder) {
  if (files.length === 0) return;
  await build({ ...COMMON, entryPoints: [...files], outbase: ROOT, outdir: folder });
}
