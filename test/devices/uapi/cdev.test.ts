import fc from 'fast-check';
import { expect, it } from 'vitest';
import { encodeAttach, encodeBind, encodeDetach, readAttached, readBound } from '../../../src/devices/uapi/cdev.js';
import { hex, survivesAnyBytes } from './bytes-helpers.js';

it('asks byte by byte', () => {
  expect(encodeBind(7)).toEqual(hex('10 00 00 00  00 00 00 00  07 00 00 00  00 00 00 00'));
  expect(encodeAttach(3)).toEqual(hex('0c 00 00 00  00 00 00 00  03 00 00 00'));
  expect(encodeDetach()).toEqual(hex('08 00 00 00  00 00 00 00'));
});

it('reads the ids of device and page table', () => {
  expect(readBound(hex('10 00 00 00  00 00 00 00  07 00 00 00  05 00 00 00'))).toBe(5);
  expect(readAttached(hex('0c 00 00 00  00 00 00 00  09 00 00 00'))).toBe(9);
  survivesAnyBytes(readBound, fc.constant(encodeBind(7)));
  survivesAnyBytes(readAttached, fc.constant(encodeAttach(7)));
});
