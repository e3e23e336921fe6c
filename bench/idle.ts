/**
 * What a reactor costs while nothing is signalled: CPU time of a process with many irqs armed, in percent of one CPU, beside
 * a bare Node process. Started by run.ts; prints one line of JSON.
 *
 *   idle.ts FDS
 *
 * Both are looked at from outside: a process that wakes up to read its own clock costs itself a millisecond, which is more
 * than all that is measured. The figure begins when V8 has done the one collection (20 to 30 ms) that it makes some eight
 * seconds after a start; the seconds before are printed beside it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const startMs = 1000;
const settleMs = 12_000;
const idleMs = 10_000;

/** All threads, ns. */
function cpuNs(pid: number): number {
  const tasks = `/proc/${pid}/task`;
  return readdirSync(tasks).reduce((sum, task) => sum + Number(readFileSync(`${tasks}/${task}/schedstat`, 'utf8').split(' ')[0]), 0);
}

async function measured(fds: string): Promise<{ readonly settling: number; readonly idle: number }> {
  const held = spawn(process.execPath, [fileURLToPath(new URL('idle-held.js', import.meta.url)), fds], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(held.stdout, 'data');
  const pid = held.pid ?? 0;
  await setTimeout(startMs);
  const started = cpuNs(pid);
  await setTimeout(settleMs);
  const settled = cpuNs(pid);
  await setTimeout(idleMs);
  const ended = cpuNs(pid);
  held.kill();
  return { settling: (settled - started) / (settleMs * 1e4), idle: (ended - settled) / (idleMs * 1e4) };
}

const [ours, bare] = await Promise.all([measured(process.argv[2] ?? '1024'), measured('0')]);
console.log(JSON.stringify({ cpuPercent: ours.idle, barePercent: bare.idle, settlingPercent: ours.settling, bareSettlingPercent: bare.settling }));
