import { serve } from '../shared/serve.js';
import { virtioRng } from './rng.js';

/**
 * A source of entropy that was written here, for a guest of QEMU: a virtqueue in the guest's memory, filled by DMA.
 *
 * ```
 * guest   --n------n--     buffers are in the queue
 * memory  --rrrw---r..     the device reads the queue, writes random bytes
 * msi-x   -----m------     they are there
 * ```
 */
serve(virtioRng());
