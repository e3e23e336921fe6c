import { describe, it } from 'vitest';
import { describePort, memoryTrace, recordPort, softwarePortHarness } from '../../src/testing/index.js';

describePort({ describe, it }, 'recorded', softwarePortHarness({ around: (port) => recordPort(port, memoryTrace()) }));
