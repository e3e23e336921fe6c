import { softwareHarness } from './software-harness.js';
import { describePort } from './suite.js';

describePort('software', softwareHarness());
