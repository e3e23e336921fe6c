import ts from 'typescript';
import { parseMarbles } from '../../src/testing/marble-parser.js';

/** The test whose marbles a doc comment shows. */
const named = /^is its diagram/;

/** What happens in a marble string and when, whatever it is called: `3 next`, `5 complete`. undefined: it is none. */
function shapeOf(text: string): readonly string[] | undefined {
  try {
    return parseMarbles(text, text.includes('[') ? 'lane' : /[\^!]/.test(text) ? 'subscription' : 'values', 'us').map(({ frame, kind }) => `${frame} ${kind}`);
  } catch {
    return undefined;
  }
}

/** The marble strings of the test, or of what is in its place. */
function marblesOf(test: string): readonly (readonly string[])[] {
  const source = ts.createSourceFile('test.ts', test, ts.ScriptTarget.ESNext, true);
  const found: string[] = [];
  const visit = (node: ts.Node, inside: boolean): void => {
    if (inside && ts.isStringLiteralLike(node)) found.push(node.text);
    const [title] = ts.isCallExpression(node) ? node.arguments : [];
    const here = inside || (title !== undefined && ts.isStringLiteral(title) && named.test(title.text));
    ts.forEachChild(node, (child) => visit(child, here));
  };
  visit(source, false);
  return found.flatMap((text) => [shapeOf(text) ?? []]);
}

/** A row's marbles, and without what is said behind them: where they end only the test knows. */
function* readings(row: string): Generator<readonly string[]> {
  for (let rest: string | undefined = row.trimEnd(); rest !== undefined; rest = /^(.*\S)\s{3,}\S.*$/.exec(rest)?.[1]) {
    const shape = shapeOf(rest);
    if (shape !== undefined) yield shape;
  }
}

/** The diagram of a doc comment: its rows, without their titles. */
function rowsOf(doc: string): readonly { readonly row: string; readonly marbles: string }[] {
  const [, block = ''] = /\n \* ```\n([\s\S]*?)\n \* ```/.exec(doc) ?? [];
  const rows = block.split('\n').map((line) => line.replace(/^ \* ?/, '')).filter((row) => row.trim() !== '');
  const begin = Math.min(...rows.map((row) => row.search(/(?<=\s)-/)).filter((column) => column > 0));
  return rows.map((row) => ({ row, marbles: row.slice(begin) }));
}

/** Rows of a diagram whose events are those of no marbles of its test. What a test does in frame 0, to set the stage, a row may leave out. */
export function rottenRows(doc: string, test: string): readonly string[] {
  const tested = new Set(marblesOf(test).flatMap((marks) => [marks.join(), marks.filter((mark) => !mark.startsWith('0 ')).join()]));
  const isTested = (shape: readonly string[]): boolean => shape.length > 0 && tested.has(shape.join());
  return rowsOf(doc).filter(({ marbles }) => ![...readings(marbles)].some(isTested)).map(({ row }) => row);
}

export function diagramLength(doc: string): number {
  return rowsOf(doc).length;
}
