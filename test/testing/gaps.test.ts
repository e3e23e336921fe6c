import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

const docs = resolve(import.meta.dirname, '../../docs');
const rows = [...readFileSync(join(docs, 'marbles.md'), 'utf8').matchAll(/^\| (.*) \| .* \| \[.*\]\((.*)\): (.*) \|$/gm)];

describe('what TestScheduler leaves open', () => {
  it('is listed', () => expect(rows.length).toBe(10));

  it.each(rows.map(([, gap = '', path = '', title = '']) => [gap, path, title]))('%s: has its test', (_, path, title) => {
    expect(readFileSync(join(docs, path), 'utf8')).toContain(`it('${title}'`);
  });
});
