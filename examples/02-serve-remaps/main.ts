import { takeUntil, tap } from 'rxjs';
import { remapIrq, remapRegions, withDevice, type Area, type Remap } from 'vfio-rx';
import { example, run, sayingStates } from '../shared/program.js';
import { lively, takeAndGive } from '../shared/software.js';

/**
 * The driver of a device takes mapped areas away and gives them back: that is served, and said.
 *
 * ```
 * driver    ---t----g---    takes region 0, gives it back
 * signal    ---1----1---    its irq
 * unmap     ---0--------
 * map       01------0---
 * ack       ---1----1---    only now the driver goes on
 * served    a--b----c---    a: at first all is mapped
 * ```
 */

const sizeOf = (areas: readonly Area[]): number => areas.reduce((sum, { size }) => sum + size, 0);

function lineOf({ batch, because, diffs, acked, servedNs }: Remap): string {
  const changes = diffs
    .map(({ index, revoked, added }) => ({ index, less: sizeOf(revoked), more: sizeOf(added) }))
    .filter(({ less, more }) => less + more > 0)
    .map(({ index, less, more }) => `region ${index}${less > 0 ? ` -${less}` : ''}${more > 0 ? ` +${more}` : ''}`);
  return `batch ${batch} (${because}): ${changes.join(', ') || 'nothing has changed'}${acked ? ', acked' : ''} after ${(Number(servedNs) / 1e6).toFixed(2)} ms`;
}

const { address, over } = example(lively(takeAndGive));

run(
  withDevice(address, (device) =>
    remapIrq(device).pipe(
      remapRegions(device),
      tap((remap) => console.log(lineOf(remap))),
      sayingStates(device),
      takeUntil(over),
    ),
  ),
);
