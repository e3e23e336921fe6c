import { describe, expect, it } from 'vitest';
import { isThere, linkedName, linkedPath, mayUse, namesIn, realPath, textOf, thisMachine } from '../../../src/cli/machine/machine.js';
import { Tree } from './tree.js';

describe('the files of a machine', () => {
  it('are read below its root, and what is not there is undefined', () => {
    using tree = new Tree();
    const { machine } = tree.file('/a/b', ' text ').link('/a/c', '../x/y').folder('/x/y');
    expect([textOf(machine, '/a/b'), textOf(machine, '/a/d'), textOf(machine, '/a')]).toEqual(['text', undefined, undefined]);
    expect([namesIn(machine, '/a'), namesIn(machine, '/b')]).toEqual([['b', 'c'], []]);
    expect([linkedName(machine, '/a/c'), linkedPath(machine, '/a/c'), linkedName(machine, '/a/b')]).toEqual(['y', '../x/y', undefined]);
    expect([realPath(machine, '/a/c'), realPath(machine, '/a/d')]).toEqual(['/x/y', undefined]);
    expect([isThere(machine, '/x/y'), isThere(machine, '/y')]).toEqual([true, false]);
    tree.forbidden.add('/a/b');
    expect([mayUse(machine, '/a/b'), mayUse(machine, '/a/c')]).toEqual([false, true]);
  });

  it('are those of this one, too', () => {
    expect(Number(textOf(thisMachine, '/proc/self/stat')?.split(' ')[0])).toBe(process.pid);
    expect([mayUse(thisMachine, '/dev/null'), mayUse(thisMachine, '/dev/nothing')]).toEqual([true, false]);
  });
});
