import { describeRow } from './suite.js';

describeRow('saving-layout');
