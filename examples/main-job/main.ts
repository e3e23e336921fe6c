/**
 * The main job, `npm start`: see ../README.md. The story itself is in job.ts; here it is opened, watched and judged.
 */
import { merge, shareReplay, Subject, take, tap, timer } from 'rxjs';
import { withDevice } from 'vfio-rx';
import { recordLanes } from 'vfio-rx/testing';
import { runDiagrams } from './diagram.js';
import { runInVm } from './in-vm.js';
import { mainJob } from './job.js';
import { loopGuestPlan, workerGuestPlan } from './mailbox.js';
import { help, readOptions, UsageError, type JobOptions } from './options.js';
import { RunRecord } from './record.js';
import { profiles } from './profiles.js';
import { chooseShow } from './show.js';
import { toldRelease } from './told.js';
import { judge } from './verdict.js';
import { kernelPlace, softwarePlace, type Place } from './where.js';

const exitUsage = 2;
const exitInterrupted = 130;

function run(place: Place, options: JobOptions): void {
  const { what, address, witness, overtimeS } = place;
  const record = new RunRecord();
  const recording = recordLanes();
  const show = chooseShow(process.stdout, options.json);
  const interrupted = ctrlC();
  const overdue = timer((options.seconds + overtimeS) * 1000).pipe(tap(() => record.failed('the run did not end in its time')));
  const cut = merge(interrupted.once, overdue).pipe(take(1), shareReplay({ bufferSize: 1, refCount: true }));

  show.tell({ what: 'device', text: what, data: { device: what } });
  withDevice(address, (device) => {
    device.released.subscribe({ next: (report) => show.tell(toldRelease(report)), error: (error: unknown) => record.failed(error) });
    return mainJob(device, { options, place, record, cut });
  }).subscribe({
    next: (told) => show.tell(told),
    error: (error: unknown) => {
      record.failed(error);
      end();
    },
    complete: () => end(),
  });

  function end(): void {
    interrupted.forget();
    recording.stop();
    show.finish();
    if (interrupted.happened) {
      process.stderr.write('interrupted: the device is closed\n');
      process.exitCode = exitInterrupted;
      return;
    }
    const guests = [loopGuestPlan, workerGuestPlan].map(({ id, name }) => ({ id, name, sent: record.sentBy(id) }));
    const { deliveries, violations, held } = witness;
    const { answer } = profiles[options.profile];
    const verdict = judge({ answer, guests, deliveries, violations, held, trace: record.trace.lines, traceMissed: record.trace.missed, sums: record.sums, failures: record.failures });
    show.diagram(runDiagrams(recording.events, record.trace.lines, options.rounds, { color: process.stdout.isTTY && process.stdout.hasColors(), dropped: recording.dropped }));
    show.verdict(verdict);
    process.exitCode = verdict.ok ? 0 : 1;
  }
}

/** The first Ctrl-C is an event; the second one ends the process as if nobody had listened. */
function ctrlC() {
  const once = new Subject<void>();
  let happened = false;
  const hear = (): void => {
    if (happened) {
      forget();
      process.kill(process.pid, 'SIGINT');
      return;
    }
    happened = true;
    once.next();
  };
  const forget = (): void => void process.removeListener('SIGINT', hear);
  process.on('SIGINT', hear);
  return {
    once: once.asObservable(),
    forget,
    get happened() {
      return happened;
    },
  };
}

// The reader went away (`npm start | head`): nobody is left to be told.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(1);
});

const args = process.argv.slice(2);
try {
  const options = readOptions(args);
  const place = options === 'help' ? undefined : options.kernel ? kernelPlace(options.profile) : softwarePlace(options.profile);
  if (options === 'help') process.stdout.write(help);
  else if (place !== undefined) run(place, options);
  else process.exitCode = await runInVm(args);
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  process.stderr.write(`${error.message} (more: --help)\n`);
  process.exitCode = exitUsage;
}
