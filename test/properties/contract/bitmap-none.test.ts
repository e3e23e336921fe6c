import { describeRow } from './suite.js';

describeRow('bitmap, none');
