/** `vfio-rx/streams`: what a device emits, and what is composed of it. */
export { deviceState } from './device-state.js';
export { dirtyPages, type DirtyPages, type DirtyPagesOptions } from './dirty-pages.js';
export { health, type Health } from './health.js';
export { irq, type SignalOptions, type UnmaskOptions } from './irq.js';
export { irqs } from './irqs.js';
export { regions } from './regions.js';
export { remapIrq, type RemapIrqOptions } from './remap-irq.js';
export { resumeState, type ResumingState } from './resume-state.js';
export { savedState, type SavedState, type SaveOptions } from './saved-state.js';
export { transition, type Arc, type TransitionOptions } from './transition.js';
