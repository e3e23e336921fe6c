/** Everything but the testing kit, which is `vfio-rx/testing`. */
export * from './devices/index.js';
export * from './migration/index.js';
export * from './operators/index.js';
export * from './streams/index.js';
