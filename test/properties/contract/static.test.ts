import { describeRow } from './suite.js';

describeRow('static');
