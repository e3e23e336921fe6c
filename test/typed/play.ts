import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { departure, difference, linesOf } from './compare.js';
import type { Document, Kind, Step } from './document.js';
import { Shell, type ShellOptions } from './shell.js';

/** How long one command, or the beginning of what runs in the background, may take on a busy machine: only against what never ends, ms. */
const deadlineMs = 120_000;

/** Whether it is typed there. In a clone there is nothing to install: it brings what it needs. */
export function isTyped(step: Step, kind: Kind): boolean {
  if (step.kind !== 'command') return step.kind === 'file';
  return (step.only ?? kind) === kind && !(kind === 'clone' && /^npm (init|install|i) /.test(step.command));
}

/** Types a document, and says what is not as it is written: `page:line: $ command`, what the document has, and what came. */
export async function play(page: string, document: Document, kind: Kind, shellOptions: ShellOptions): Promise<readonly string[]> {
  await using shell = new Shell(shellOptions);
  const failures: string[] = [];
  for (const step of document.steps.filter((one) => isTyped(one, kind))) {
    if (step.kind === 'file') {
      const file = join(shell.folder, step.name);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, step.text);
    } else if (step.kind === 'command') {
      const wrong = await typed(shell, step.command, step.wanted);
      if (wrong !== undefined) failures.push(`${page}:${step.line}: $ ${step.command}\n${wrong.says}`);
      if (wrong?.stuck === true) break;
    }
  }
  return failures;
}

async function typed(shell: Shell, command: string, wanted: readonly string[]): Promise<{ readonly says: string; readonly stuck?: boolean } | undefined> {
  if (/[^&]&$/.test(command)) {
    // It may say more later: only its beginning is compared.
    const begun = [...wanted, '…'];
    const output = await shell.leave(command, (sofar) => departure(begun, linesOf(sofar)) === undefined, deadlineMs);
    const says = difference(begun, linesOf(output));
    return says === undefined ? undefined : { says: `${says}\n  within ${deadlineMs / 1000} s` };
  }
  const answer = await shell.type(command, deadlineMs);
  if (answer === undefined) return { says: `  has not ended within ${deadlineMs / 1000} s`, stuck: true };
  const says = difference(wanted, linesOf(answer.output));
  if (says !== undefined) return { says: `${says}\n  exit code ${answer.code}` };
  // A failure that is meant is one that the document shows.
  if (answer.code !== 0 && wanted.every((line) => line.trim() === '…')) return { says: `  failed with exit code ${answer.code}, and the document says nothing of it:\n${answer.output.replaceAll(/^/gm, '    ')}` };
  return undefined;
}
