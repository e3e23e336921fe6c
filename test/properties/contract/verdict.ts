import { recordLanes, renderDiagram } from '../../../src/testing/index.js';
import { play } from '../run.js';
import { schedulePrinted, type Schedule } from '../schedule.js';
import type { Cell } from './cells.js';
import type { CellResult } from './check.js';

/** Of so few schedules it may be that none tests a promise, or shows a rare fall. */
const enoughToTest = 500;
const enoughToFall = 10_000;

/** Throws where a promise of the cell was broken, was tested by nothing, or did not fall although the table says so. */
export function expectKept(cell: Cell, result: CellResult, seed: number): void {
  const { broken } = result;
  const where = `${cell.row.name}, ${cell.fault.what}, seed ${seed}`;
  if (broken !== undefined) throw new Error(`${where}\n\n${broken.complaints.join('\n')}\n\n${drawn(broken.schedule)}`);
  const zeroes = (of: Readonly<Record<string, number>>): readonly string[] => Object.entries(of).filter(([, times]) => times === 0).map(([name]) => name);
  const untested = zeroes(result.tested).filter((name) => !cell.vacuous.some((one) => one === name));
  if (result.runs >= enoughToTest && untested.length > 0) throw new Error(`${where}: nobody put ${untested.join(', ')} to the test`);
  const standing = zeroes(result.fallen).filter((name) => !cell.seldom.some((one) => one === name));
  if (result.runs >= enoughToFall && standing.length > 0) throw new Error(`${where}: the table says that ${standing.join(', ')} falls, and it did not`);
}

/** One line about one cell. */
export function cellPrinted(cell: Cell, { runs: played, tested, fallen }: CellResult, seed: number): string {
  const counts = (of: Readonly<Record<string, number>>): string => Object.entries(of).map(([name, times]) => `${name} ${times}`).join(', ');
  const fell = Object.keys(fallen).length === 0 ? '' : `; fell in: ${counts(fallen)}`;
  return `${cell.row.name} | ${cell.fault.what}: ${played} schedules, seed ${seed}; tested: ${counts(tested)}${fell}`;
}

/** The schedule in words, and what came of it as a marble diagram. */
function drawn(schedule: Schedule): string {
  using recording = recordLanes();
  try {
    play(schedule);
  } catch {
    // A run that throws has been recorded up to there.
  }
  return `${schedulePrinted(schedule)}\n\n${renderDiagram(recording.events, { width: 150 })}`;
}
