import { describe, expect, it } from 'vitest';
import { importFault, place, roomNames, sourceFiles, targetOf, textOf } from './support/house.js';
import { computedImportsIn, defaultExportsIn, promisesIn, stringsIn } from './support/source-file.js';

const files = sourceFiles();

/** What a rule finds in all of src, each with the file's name. */
function found(rule: (file: string, text: string) => readonly string[], among = files): readonly string[] {
  return among.flatMap((file) => rule(file, textOf(file)).map((fault) => `${file}: ${fault}`));
}

function importFaults(file: string, text: string): readonly string[] {
  return stringsIn(file, text).flatMap((name) => importFault(file, name) ?? []);
}

describe('the house', () => {
  it('has a room for every file, and no empty room', () => {
    const used = new Set(files.map((file) => place(file).room));
    expect([...used].sort()).toEqual([...roomNames()].sort());
    expect(() => place('src/helpers/all.ts')).toThrow('stands on no floor');
    expect(() => place('src/devices/all.ts')).toThrow('stands on no floor');
  });

  it('lets imports only go down, and never to an entry point', () => {
    expect(found(importFaults)).toEqual([]);
    expect(found(computedImportsIn)).toEqual([]);
  });

  it('names only files that are there', () => {
    const there = new Set(files);
    const missing = (file: string, text: string) => stringsIn(file, text).filter((name) => !there.has(targetOf(file, name) ?? file));
    expect(found(missing)).toEqual([]);
  });

  for (const [how, sample] of [
    ['an import', `import { irq } from '../../streams/irq.js';`],
    ['double quotes', `import { irq } from "../../streams/irq.js";`],
    ['a side effect', `import '../../streams/irq.js';`],
    ['a re-export', `export * from '../../streams/irq.js';`],
    ['a type', `type Irq = typeof import('../../streams/irq.js');`],
    ['a type in a comment', `/** @type {import('../../streams/irq.js').irq} */\nlet irq;`],
    ['import()', `const late = import('../../streams/irq.js');`],
    ['createRequire', `const { irq } = createRequire(import.meta.url)('../../streams/irq.js');`],
    ['createRequire under a name', `const load = createRequire(import.meta.url);\nload(\`../../streams/irq.js\`);`],
    ['new URL', `new Worker(new URL('../../streams/irq.js', import.meta.url));`],
    ['an entry point', `import { irq } from '../../index.js';`],
    ['an entry point of its own folder', `import { openDevice } from '../index.js';`],
    ['the package itself', `import { irq } from 'vfio-rx';`],
    ['an entry point of the package itself', `import { irq } from 'vfio-rx/streams';`],
    ['the next room of its floor', `import { softwareDevice } from '../software/software-device.js';`],
  ] as const) {
    it(`sees what goes up by ${how}`, () => {
      expect(importFaults('src/devices/kernel/planted.mjs', sample)).toEqual([expect.stringContaining('src/devices/kernel/planted.mjs (floor')]);
    });
  }

  it('sees an import whose name is made at run time', () => {
    for (const sample of ['import(name);', 'require(name);', 'createRequire(import.meta.url)(name);', 'import(`./${name}.js`);']) {
      expect(computedImportsIn('src/planted.ts', sample)).toHaveLength(1);
    }
  });

  it('lets pass what goes down or stays in the room', () => {
    expect(importFaults('src/streams/planted.ts', `import './irq.js'; import '../devices/device.js'; import '../errors.js'; import 'rxjs';`)).toEqual([]);
  });
});

describe('the code of the house', () => {
  it('has no barrels but the entry points, and no default exports', () => {
    expect(files.filter((file) => /(^|\/)index\.\w+$/.test(file) && place(file).floor !== place('src/index.ts').floor)).toEqual([]);
    expect(found(defaultExportsIn)).toEqual([]);
    for (const sample of ['export default 1;', 'export default class {}', 'export default function f() {}', 'const x = 1; export { x as default };', `export { default } from 'rxjs';`, `export * as default from 'rxjs';`, 'export = 1;']) {
      expect(defaultExportsIn('planted.ts', sample), sample).not.toEqual([]);
    }
    expect(defaultExportsIn('planted.ts', 'switch (1) { default: break; } export const f = ({ default: x }: { default: 1 }) => x;')).toEqual([]);
  });

  it('keeps the pure core free of rxjs', () => {
    const impure = (file: string, text: string) => stringsIn(file, text).filter((name) => /^rxjs(\/|-|$)/.test(name));
    const pure = files.filter((file) => /^src\/(devices\/(protocol|trace|uapi|vfio-user\/messages)|wire)\//.test(file));
    expect(pure.length).toBeGreaterThan(10);
    expect(found(impure, pure)).toEqual([]);
    for (const sample of [`import { of } from "rxjs";`, `import 'rxjs/testing';`, `type O = import('rxjs').Observable<1>;`]) expect(impure('planted.ts', sample)).toHaveLength(1);
  });

  /** Law 1. What may have to do with Promises nevertheless, and why. */
  const exceptions = {
    'src/devices/authored/authored-port.ts: [Symbol.asyncDispose]': 'is close(), for `await using`',
    'src/devices/device.ts: close': 'settles when nothing is held: outside every remap path',
    'src/devices/device.ts: [Symbol.asyncDispose]': 'is close(), for `await using`',
    'src/devices/kernel/kernel-port.ts: [Symbol.asyncDispose]': 'is close(), for `await using`',
    'src/devices/replay/replay-port.ts: replayPort': 'is close(), for `await using`',
    'src/devices/software/software-port.ts: [Symbol.asyncDispose]': 'is close(), for `await using`',
    'src/devices/vfio-user/user-port.ts: [Symbol.asyncDispose]': 'is close(), for `await using`',
    'src/devices/linux/reactor.ts: rethrowLater': 'reports what a callback threw, and nobody waits for it',
  };

  it('knows no Promise between an irq and its ack', () => {
    const promises = (file: string, text: string) => [...new Set(promisesIn(file, text).map(({ within }) => within))];
    // The testing kit is the one part that has to know them: it refuses them.
    const serving = files.filter((file) => !file.startsWith('src/testing/'));
    expect([...found(promises, serving)].sort()).toEqual(Object.keys(exceptions).sort());
  });

  for (const sample of [
    'async function f() {}', 'const f = async () => 1;', 'const f = async x => x;', 'class A { async f() {} }', 'const f = { async *f() {} };',
    'await x;', 'for await (const y of x) f(y);', 'await using x = y;', 'new Promise(() => 1);', 'Promise.resolve();', 'let p: Promise<void>;',
    'x.then(f);', 'x?.then(f);', `x['then'](f);`, 'x.catch(f);', 'x.finally(f);', 'firstValueFrom(x);', 'lastValueFrom(x);', 'queueMicrotask(f);', 'globalThis.queueMicrotask(f);',
    'process.nextTick(f);', `import { lastValueFrom as last } from 'rxjs';`, `import('rxjs');`, 'x.toPromise();',
  ]) {
    it(`sees a Promise in ${sample}`, () => expect(promisesIn('planted.ts', sample)).not.toEqual([]));
  }

  it('takes neither comments nor strings nor names that only look like it for a Promise', () => {
    const sample = `/** await a Promise<void>.then(x) */\n// async\nconst awaited = 'await Promise'; try { f(); } catch { g(); } finally { h(); }\nimport { lastValueFrom } from 'rxjs';`;
    expect(promisesIn('planted.ts', sample)).toEqual([]);
  });
});
