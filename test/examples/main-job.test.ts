import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { profiles } from '../../examples/main-job/profiles.js';

/** The job as its user has it: a process of its own, on the software device, in real time. */

const root = fileURLToPath(new URL('../..', import.meta.url));
const shortRun = ['--seconds', '0.6', '--rounds', '3'];

/** A run, and the start of node on a busy machine. */
const mostMs = 60_000;

interface Ended {
  readonly code: number | null;
  readonly lines: readonly string[];
  readonly errors: string;
}

interface Check {
  readonly what: string;
  readonly ok: boolean;
}

/** @param onLine may send the process a signal */
function run(args: readonly string[], onLine: (line: string, interrupt: () => void) => void = () => undefined): Promise<Ended> {
  const child = spawn(process.execPath, ['--import', 'tsx', 'examples/main-job/main.ts', ...args], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  const lines: string[] = [];
  let errors = '';
  createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(line);
    onLine(line, () => void child.kill('SIGINT'));
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, lines, errors }));
  });
}

/** The checks of a verdict that are wrong, of a run with `--json`. */
function wrongChecks({ lines }: Ended): readonly string[] {
  const verdict = JSON.parse(lines.at(-1) ?? '{}') as { readonly what: string; readonly checks: readonly Check[] };
  expect(verdict.what).toBe('verdict');
  return verdict.checks.filter(({ ok }) => !ok).map(({ what }) => what);
}

describe('the main job', () => {
  it('ends well, and shows what happened in lines, a diagram and a verdict', { timeout: mostMs }, async () => {
    const { code, lines, errors } = await run(shortRun);
    const text = lines.join('\n');
    expect(errors).toBe('');
    expect(text).toMatch(/ irq +batch 1: 1 read from the eventfd\n.* diff +region 0: -0x0\+0x10000 \| region 1: -0x10000\+0x8000\n(.*\n)*?.* unmap +region 0 0x0\+0x10000\n/);
    expect(text).toMatch(/ ack +1, served in [\d.]+ ms, [\d.]+ ms before the driver's deadline\n/);
    expect(text).toMatch(/ state +running -> stop-copy: the write returned after /);
    expect(text).toMatch(/\n {2}ack +.*1.*\n {2}state +.*\[<?pre-copy/);
    expect(lines.at(-1)).toBe('verdict: good');
    expect(code).toBe(0);
  });

  it.each(Object.keys(profiles))('ends well with --profile %s', { timeout: mostMs }, async (profile) => {
    const ended = await run([...shortRun, '--json', '--profile', profile]);
    expect(wrongChecks(ended)).toEqual([]);
    expect(ended.code).toBe(0);
  });

  it.each([
    ['stale', ['every number of the guest in the worker arrived once', 'nothing came by a revoked path', 'the user broke no rule']],
    ['skip-ack', ['every ack came in its place', 'every signal was acked', 'nothing failed on the way']],
    ['early-ack', ['every ack came in its place', 'the user broke no rule']],
    ['lose', ['every number of the guest on the main loop arrived once']],
  ])('turns red with --sabotage %s', { timeout: mostMs }, async (sabotage, wrong) => {
    const ended = await run([...shortRun, '--json', '--sabotage', sabotage]);
    expect(wrongChecks(ended)).toEqual(wrong);
    expect(ended.code).toBe(1);
  });

  it('closes the device in order when it is interrupted', { timeout: mostMs }, async () => {
    let interrupted = false;
    const { code, lines, errors } = await run(['--seconds', '15'], (line, interrupt) => {
      if (interrupted || !line.includes(' ack ')) return;
      interrupted = true;
      interrupt();
    });
    expect(lines.at(-1)).toMatch(/ closed +device closed$/);
    expect(errors).toContain('interrupted: the device is closed');
    expect(code).toBe(130);
  });

  it('refuses an option that it does not know', { timeout: mostMs }, async () => {
    const { code, lines, errors } = await run(['--fast']);
    expect(errors).toBe("Unknown option '--fast' (more: --help)\n");
    expect(lines).toEqual([]);
    expect(code).toBe(2);
  });
});
