import { parentPort, workerData } from 'node:worker_threads';
import koffi from 'koffi';

/**
 * A guest in a thread of its own, with views of its own: it stands for a virtual CPU. The main thread cannot know what it
 * does at any instant, so it is asked to let go and answers when it has.
 *
 * @typedef {import('./worker-messages.js').ToWorker} ToWorker
 * @typedef {import('./worker-messages.js').FromWorker} FromWorker
 * @typedef {import('./worker-messages.js').SharedPiece} SharedPiece
 */

const plan = /** @type {import('./worker-messages.js').WorkerPlan} */ (workerData);
const port = parentPort;
if (port === null) throw new Error('this file is a worker thread: start the main job instead');

const reportMs = 50;
const turnsPerReport = Math.ceil(reportMs / plan.turnMs);

/** @type {(message: FromWorker) => void} */
const say = (message) => port.postMessage(message);

/** The guest's slots, while it has them. @type {BigUint64Array | undefined} */
let slots;
/** Sabotage only: a view that it gave back. @type {BigUint64Array | undefined} */
let oldSlots;
let sent = 0;
let turns = 0;
let trapOnItsWay = false;
let stopping = false;

const nextWord = () => (BigInt(plan.id) << 32n) | BigInt(sent + 1);

/**
 * Memory of a software device is shared between the threads; that of a kernel device is an address, seen through a view
 * that this thread makes for itself.
 *
 * @param {SharedPiece} piece
 */
function viewOf(piece) {
  if (piece.address === undefined) return new BigUint64Array(piece.memory, piece.byteOffset, piece.size / 8);
  return new BigUint64Array(koffi.view(piece.address, piece.size));
}

/**
 * Only this thread writes these slots, and the device only empties them: a slot that reads 0 stays empty.
 *
 * @param {BigUint64Array} mapped
 */
function fillSlots(mapped) {
  for (let slot = 0; slot < plan.slots; slot += 1) {
    if (Atomics.load(mapped, slot) !== 0n) continue;
    Atomics.store(mapped, slot, nextWord());
    sent += 1;
  }
}

/**
 * Sabotage: by now a number has gone the trapped way, so the mapping is gone for sure.
 *
 * @param {BigUint64Array} revoked
 */
function writeStale(revoked) {
  Atomics.store(revoked, 0, nextWord());
  sent += 1;
  oldSlots = undefined;
}

function turn() {
  turns += 1;
  if (turns % turnsPerReport === 0) say({ kind: 'progress', sent });
  if (trapOnItsWay) return;
  if (stopping) {
    clearInterval(clock);
    say({ kind: 'stopped', sent });
    port?.close();
  } else if (slots !== undefined) {
    fillSlots(slots);
  } else {
    trapOnItsWay = true;
    say({ kind: 'trap', word: nextWord() });
  }
}

const clock = setInterval(turn, plan.turnMs);

port.on('message', (/** @type {ToWorker} */ message) => {
  switch (message.kind) {
    case 'regain': {
      const [piece] = message.pieces;
      slots = piece === undefined ? undefined : viewOf(piece);
      say({ kind: 'regained' });
      break;
    }
    case 'release':
      if (plan.stale) oldSlots = slots;
      slots = undefined;
      say({ kind: 'released' });
      break;
    case 'trapped':
      trapOnItsWay = false;
      sent += 1;
      if (oldSlots !== undefined) writeStale(oldSlots);
      break;
    case 'stop':
      stopping = true;
      break;
  }
});
say({ kind: 'ready' });
