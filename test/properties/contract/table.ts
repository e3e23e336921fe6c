import { rows, type RowName } from '../rows.js';
import { cellOf, insteads, promisesOf, type Cell, type InsteadName } from './cells.js';
import { faults } from './misbehaviours.js';

const rowNames = Object.keys(rows) as RowName[];

/** Everything that the table says, as it stands in docs/contract.md between its two marks. */
export function contractTable(): string {
  const cells = faults.map(({ what, switches }) => ({ what, switches, cells: rowNames.map((row) => cellOf(row, what)) }));
  const reasons = [...new Set(cells.flatMap((line) => line.cells.flatMap(({ nonsense }) => nonsense ?? [])))];
  const notes = [...new Set(cells.flatMap((line) => line.cells.flatMap(({ note }) => note ?? [])))];
  const noteMark = (cell: Cell): string => (cell.note === undefined || cell.nonsense !== undefined ? '' : ' ' + '*'.repeat(1 + notes.indexOf(cell.note)).replaceAll('*', '\\*'));
  const line = (entries: readonly string[]): string => `| ${entries.join(' | ')} |`;
  return [
    line(['the driver', ...rowNames]),
    line(['---', ...rowNames.map(() => '---')]),
    ...cells.map(({ what, cells: ofRow }) => line([what === 'none' ? '**keeps its duties**' : what, ...ofRow.map((cell) => `${told(cell, reasons)}${noteMark(cell)}`)])),
    '',
    `\`all\`: every promise holds (P8 where there are pages: ${rowNames.filter((name) => promisesOf(rows[name]).includes('P8')).join('; ')}). \`not P2 (b)\`: P2 does not, and what is below under b does instead; all others hold.`,
    ...reasons.map((reason, n) => `\`- (${n + 1})\`: there is no such thing in this row, for ${reason}.`),
    '',
    ...notes.map((note, n) => `${'\\*'.repeat(n + 1)} ${note}\n`),
    '| mark | of | what the user gets, and by when |',
    '|---|---|---|',
    ...(Object.keys(insteads) as InsteadName[]).map((name) => line([insteads[name].mark, insteads[name].of, insteads[name].what])),
    '',
    '| misbehaviour | switches: software driver, kernel driver |',
    '|---|---|',
    ...faults.filter(({ what }) => what !== 'none').map(({ what, switches }) => line([what, `\`${switches}\``])),
  ].join('\n');
}

function told({ nonsense, falls }: Cell, reasons: readonly string[]): string {
  if (nonsense !== undefined) return `- (${reasons.indexOf(nonsense) + 1})`;
  if (falls.length === 0) return 'all';
  return `not ${[...falls].sort((a, b) => insteads[a].of.localeCompare(insteads[b].of)).map((name) => `${insteads[name].of} (${insteads[name].mark})`).join(', ')}`;
}

export const beginMark = '<!-- The table is made from test/properties/contract: npm run contract -- --table -->';
export const endMark = '<!-- end of the table -->';

/** The document with its table as it is now. Throws where it has no marks. */
export function withTable(document: string): string {
  const begin = document.indexOf(beginMark);
  const end = document.indexOf(endMark);
  if (begin < 0 || end < begin) throw new Error('docs/contract.md has lost the marks around its table');
  return `${document.slice(0, begin)}${beginMark}\n\n${contractTable()}\n\n${document.slice(end)}`;
}
