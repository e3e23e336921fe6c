import { execFile } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { Document, Kind } from './document.js';
import type { ShellOptions } from './shell.js';

const run = promisify(execFile);

/** What VFIO is reached by. */
const devices = ['/dev/vfio', '/dev/iommu'];

/** What a guide has its reader install beside the package. */
const beside = ['rxjs', 'typescript', 'tsx', 'vitest', '@types/node'];

/** The settings of npm that a test may need: where from, and what it has already. */
const ofNpm = /^npm_config_(registry|cache|userconfig|globalconfig|cafile|https?_proxy|proxy|noproxy)$/i;

/** Fresh trees: clones of the repository, and folders in which the packed tarball is installed. */
export class Places {
  readonly #folder = mkdtempSync(join(tmpdir(), 'vfio-rx-typed-'));
  readonly #root: string;
  #made = 0;
  tarball = '';

  private constructor(root: string) {
    this.#root = root;
  }

  /** Packs a clone, and installs what that gives. */
  static async of(root: string): Promise<Places> {
    const places = new Places(root);
    await places.#prepare();
    return places;
  }

  /** For one document. One that has programs is typed in a folder of its own, as its reader would begin it. */
  async place(kind: Kind, page: string, document: Document): Promise<ShellOptions> {
    this.#made += 1;
    const tree = join(this.#folder, `${this.#made}-${page.replaceAll(/\W+/g, '-')}`);
    if (kind === 'installed') await run('cp', ['-al', join(this.#folder, 'installed'), tree]);
    else await this.#clone(tree);
    // Built, unless that is for the reader to do.
    const builds = document.steps.some((step) => step.kind === 'command' && step.command.startsWith('npm run build'));
    if (kind === 'clone' && !builds) cpSync(join(this.#folder, 'packed', 'dist'), join(tree, 'dist'), { recursive: true });
    const own = document.steps.some((step) => step.kind === 'file') && kind === 'clone';
    const folder = own ? join(tree, 'mine') : tree;
    mkdirSync(folder, { recursive: true });
    return { folder, env: this.#environment(kind), hidden: devices.filter((path) => existsSync(path)) };
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #prepare(): Promise<void> {
    const packed = join(this.#folder, 'packed');
    await this.#clone(packed);
    const { stdout } = await run('npm', ['pack', '--json', '--silent'], { cwd: packed });
    this.tarball = join(packed, (JSON.parse(stdout) as readonly { readonly filename: string }[])[0]?.filename ?? '');
    const { devDependencies } = JSON.parse(readFileSync(join(this.#root, 'package.json'), 'utf8')) as { readonly devDependencies: Readonly<Record<string, string>> };
    const installed = join(this.#folder, 'installed');
    mkdirSync(installed);
    writeFileSync(join(installed, 'package.json'), '{ "private": true, "type": "module" }\n');
    // The peer and the tools as the lock file of the project has them: npm has them in its cache.
    await run('npm', ['install', '--silent', '--prefer-offline', this.tarball, ...beside.map((name) => `${name}@${devDependencies[name] ?? 'latest'}`)], { cwd: installed });
    // The tarball stands for the name, which no registry has.
    const npm = join(this.#folder, 'bin', 'npm');
    mkdirSync(dirname(npm));
    const { stdout: real } = await run('sh', ['-c', 'command -v npm']);
    writeFileSync(npm, `#!/bin/sh\nfor word; do\n  shift\n  if [ "$word" = vfio-rx ]; then word='${this.tarball}'; fi\n  set -- "$@" "$word"\ndone\nexec '${real.trim()}' "$@"\n`, { mode: 0o755 });
  }

  /** What is committed, and what is about to be; with the dependencies of the tree under test, which `npm ci` has put there. */
  async #clone(tree: string): Promise<void> {
    await run('git', ['clone', '--quiet', '--shared', this.#root, tree]);
    const { stdout: changes } = await run('git', ['diff', '--name-only', '-z', 'HEAD'], { cwd: this.#root });
    const { stdout: added } = await run('git', ['ls-files', '--others', '--exclude-standard', '-z'], { cwd: this.#root });
    for (const file of `${changes}${added}`.split('\0').filter((name) => name !== '')) {
      if (existsSync(join(this.#root, file))) cpSync(join(this.#root, file), join(tree, file), { recursive: true });
      else rmSync(join(tree, file));
    }
    symlinkSync(join(this.#root, 'node_modules'), join(tree, 'node_modules'));
  }

  /** As of someone who has just logged in. */
  #environment(kind: Kind): NodeJS.ProcessEnv {
    const kept = Object.entries(process.env).filter(([name]) => ofNpm.test(name) || !/^(VFIO_RX_|VITEST|npm_|INIT_CWD|NODE_OPTIONS|NODE_ENV|CI$|TEST$|DEV$|PROD$|MODE$|BASE_URL|SSR$|FORCE_COLOR)/i.test(name));
    const path = (process.env['PATH'] ?? '').split(delimiter).filter((entry) => !entry.includes('node_modules'));
    return {
      ...Object.fromEntries(kept),
      PATH: [...(kind === 'installed' ? [join(this.#folder, 'bin')] : []), dirname(process.execPath), ...path].join(delimiter),
      LANG: 'C.UTF-8',
      NO_COLOR: '1',
      npm_config_prefer_offline: 'true',
      npm_config_update_notifier: 'false',
    };
  }
}
