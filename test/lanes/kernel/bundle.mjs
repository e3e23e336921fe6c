import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
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
  // "sideEffects": false is for users of the package; a program here may be imported for what it does.
  ignoreAnnotations: true,
  // Native code cannot be bundled; the guest resolves it from the checkout's node_modules.
  external: ['koffi', '@koromix/*', '*.node', 'esbuild'],
  plugins: [keepSourceUrls],
  // CommonJS dependencies inside the bundle ask for node's own modules through require().
  banner: { js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);" },
  outExtension: { '.js': '.mjs' },
  logLevel: 'silent',
};

/**
 * Bundles all test files with the runner into `<folder>/tests.mjs`. A file that cannot be bundled is one failure and
 * does not keep the others from running.
 *
 * @param {readonly string[]} files relative to the repository's root
 * @param {string} folder inside the checkout, so that node finds node_modules from there
 * @returns {Promise<{ bundle: string, failures: import('../outcome.mjs').Failure[] }>}
 */
export async function bundleTests(files, folder) {
  const bundle = join(folder, 'tests.mjs');
  try {
    await bundleTogether(files, bundle);
    return { bundle, failures: [] };
  } catch {
    const attempts = await Promise.all(files.map(async (file) => ({ file, error: await tryAlone(file) })));
    const sound = attempts.filter(({ error }) => error === undefined).map(({ file }) => file);
    await bundleTogether(sound, bundle);
    const failures = attempts.flatMap(({ file, error }) => (error === undefined ? [] : [{ test: `${file} (bundling)`, message: error }]));
    return { bundle, failures };
  }
}

/**
 * @param {readonly string[]} files
 * @param {string} outfile
 */
async function bundleTogether(files, outfile) {
  const loaders = files.map((file) => `${JSON.stringify(file)}: () => import(${JSON.stringify(`./${file}`)}),`);
  const entry = [
    `import { runTests } from ${JSON.stringify(`./${relative(ROOT, join(GUEST, 'runner.mjs'))}`)};`,
    `await runTests(${JSON.stringify(ROOT)}, {\n${loaders.join('\n')}\n});`,
  ].join('\n');
  await build({
    ...COMMON,
    stdin: { contents: entry, resolveDir: ROOT, sourcefile: 'tests-entry.mjs', loader: 'js' },
    alias: { vitest: VITEST },
    outfile,
  });
}

/**
 * @param {string} file
 * @returns {Promise<string | undefined>} what is wrong with it
 */
async function tryAlone(file) {
  try {
    await build({ ...COMMON, entryPoints: [file], alias: { vitest: VITEST }, outdir: ROOT, write: false });
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

/**
 * Bundles one program: `a/b.ts` becomes `<folder>/a/b.mjs`.
 *
 * @param {string} file relative to the repository's root
 * @param {string} folder
 * @returns {Promise<string>} the bundle's path
 */
export async function bundleProgram(file, folder) {
  await build({ ...COMMON, entryPoints: [file], outbase: ROOT, outdir: folder });
  return pathOfProgram(file, folder);
}

/**
 * As {@link bundleProgram} for many that are not all needed: one that cannot be bundled says so when it is run.
 *
 * @param {readonly string[]} files
 * @param {string} folder
 */
export async function bundlePrograms(files, folder) {
  const attempts = files.map((file) =>
    bundleProgram(file, folder).catch((error) => {
      const path = pathOfProgram(file, folder);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, `throw new Error(${JSON.stringify(messageOf(error))});\n`);
    }),
  );
  await Promise.all(attempts);
}

/** @param {string} file @param {string} folder */
function pathOfProgram(file, folder) {
  return join(folder, file.replace(/\.[mc]?[tj]s$/, '.mjs'));
}

/** @param {unknown} error */
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}
