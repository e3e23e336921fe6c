import { finalize, takeUntil, tap } from 'rxjs';
import { serveDevice, type PortSource } from 'vfio-rx';
import { interrupted, misused, parsed, run } from './program.js';

/** Serves a device at the one argument of the command line, `unix:/PATH`, until Ctrl-C. What it says goes to stderr: stdout may be the device's. */
export function serve(device: PortSource, ended: () => void = () => undefined): void {
  const [, path] = /^unix:(.+)$/s.exec(parsed({ allowPositionals: true }).positionals[0] ?? '') ?? [];
  if (path === undefined) misused('where? unix:/PATH');
  run(
    serveDevice(device, path).pipe(
      tap((event) => process.stderr.write(`${event.kind === 'listening' ? `serving at ${event.path}` : event.kind}\n`)),
      finalize(() => {
        process.stderr.write('not served any more\n');
        ended();
      }),
      takeUntil(interrupted),
    ),
  );
}
