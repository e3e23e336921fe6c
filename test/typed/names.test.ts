import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { unknownNames } from './names.js';

const root = join(import.meta.dirname, '../..');

describe('unknownNames', () => {
  it.each([
    'vfio-rx conformance 0000:03:00.1 --junit > results.xml',
    'sudo npx vfio-rx record 0000:03:00.1 --out run.jsonl -- pre-copy running',
    'npx vfio-rx receive vf0 --at tcp://0.0.0.0:4444 \\\n  --journal=to.journal --tls-key to.key    # with --any comment',
    'npx vfio-rx --help',
    'npm ci',
    'npm run bench',
    'npm run --silent lint',
    'echo vfio-pci | sudo tee driver_override',
  ])('knows all in %s', (command) => expect(unknownNames(command, root)).toEqual([]));

  it.each([
    ['vfio-rx lost', 'there is no command vfio-rx lost'],
    ['npx vfio-rx list --jso', 'vfio-rx list has no option --jso'],
    ['vfio-rx migrate vf0 --at x', 'vfio-rx migrate has no option --at'],
    ['npm run benches', 'package.json has no script benches'],
    ['npm tset', 'there is no npm tset'],
  ])('does not know all in %s', (command, why) => expect(unknownNames(command, root)).toEqual([why]));
});
