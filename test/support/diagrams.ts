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

/** The marble strings of the test, as they stand there. */
function marblesOf(test: string): readonly { readonly text: string; readonly shape: readonly string[] }[] {
  const source = ts.createSourceFile('test.ts', test, ts.ScriptTarget.ESNext, true);
  const found: string[] = [];
  const visit = (node: ts.Node, inside: boolean): void => {
    if (inside && ts.isStringLiteralLike(node) && node.text.includes('-')) found.push(node.text);
    const [title] = ts.isCallExpression(node) ? node.arguments : [];
    const here = inside || (title !== undefined && ts.isStringLiteral(title) && named.test(title.text));
    ts.forEachChild(node, (child) => visit(child, here));
  };
  visit(source, false);
  return found.flatMap((text) => {
    const shape = shapeOf(text);
    return shape === undefined || shape.length === 0 ? [] : [{ text: text.trim(), shape }];
  });
}

/** A row's marbles, and without what is said behind them: where they end only the test knows. */
function* readings(row: string): Generator<{ readonly text: string; readonly shape: readonly string[] }> {
  for (let rest: string | undefined = row.trimEnd(); rest !== undefined; rest = /^(.*\S)\s{3,}\S.*$/.exec(rest)?.[1]) {
    const shape = shapeOf(rest);
    if (shape !== undefined) yield { text: rest, shape };
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
  const tested = new Set(marblesOf(test).flatMap(({ shape }) => shownAs(shape)));
  return rowsOf(doc).filter(({ marbles }) => ![...readings(marbles)].some(({ shape }) => shape.length > 0 && tested.has(shape.join()))).map(({ row }) => row);
}

/** With what it does in frame 0, and without. */
function shownAs(shape: readonly string[]): readonly string[] {
  return [shape.join(), shape.filter((mark) => !mark.startsWith('0 ')).join()];
}

/**
 * The doc comment with its diagram drawn anew from its test: each row that shows nothing of it takes the next marbles of the test that no row
 * shows. Title, the names of as many events, and what is said behind it stay. Where there are not as many of these as of those, it stays as it is.
 */
export function drawnAnew(doc: string, test: string): string {
  const rotten = rottenRows(doc, test);
  const rows = rowsOf(doc);
  const shown = rows.filter(({ row }) => !rotten.includes(row)).map(({ marbles }) => [...readings(marbles)].map(({ shape }) => shape.join()));
  const all = marblesOf(test);
  const left = [...all];
  for (const texts of shown) left.splice(left.findIndex(({ shape }) => shownAs(shape).some((one) => texts.includes(one))), 1);
  const other = all.filter(({ shape }) => !shownAs(shape).some((one) => shown.flat().includes(one)));
  const unshown = left.length === rotten.length ? left : other;
  if (unshown.length !== rotten.length) return doc;
  return unshown.reduce((text, { text: marbles }, at) => {
    const [{ row, marbles: old } = { row: '', marbles: '' }] = rows.filter((one) => one.row === rotten[at]);
    const kept = [...readings(old)].at(-1)?.text ?? old.trimEnd();
    return text.replace(` * ${row}\n`, () => ` * ${row.slice(0, row.length - old.length)}${withNames(marbles, namesIn(kept)).padEnd(kept.length)}${old.slice(kept.length)}`.trimEnd() + '\n');
  }, doc);
}

/** What stands for an event with a name. */
const event = /<[^>]*>|[^\s\-()[\]|#^!]/g;

/** Durations are no events. */
function pieces(marbles: string): readonly string[] {
  return marbles.split(/(\s+\d+(?:us|ms|s|m)(?=\s|$))/);
}

function namesIn(marbles: string): readonly string[] {
  return pieces(marbles).flatMap((piece, at) => (at % 2 === 1 ? [] : [...piece.matchAll(event)].map(([name]) => name)));
}

function withNames(marbles: string, names: readonly string[]): string {
  if (namesIn(marbles).length !== names.length) return marbles;
  const left = [...names];
  return pieces(marbles).map((piece, at) => (at % 2 === 1 ? piece : piece.replaceAll(event, (name) => left.shift() ?? name))).join('');
}

export function diagramLength(doc: string): number {
  return rowsOf(doc).length;
}
