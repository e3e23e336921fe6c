import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { encodeFeature, featurePayload, readFeatureHeader, type FeatureAccess } from '../../../src/devices/uapi/device-feature.js';
import { caught, hex, survivesAnyBytes } from './bytes-helpers.js';

const origin = { operation: 'VFIO_DEVICE_FEATURE', device: 'sw0' };

describe('encodeFeature', () => {
  it.each<[FeatureAccess, string]>([['get', '01'], ['set', '02'], ['probe', '04'], ['probe-get', '05'], ['probe-set', '06']])('writes %s', (access, flags) => {
    expect(encodeFeature(9, access)).toEqual(hex(`08 00 00 00  09 00 ${flags} 00`));
  });

  it('puts the payload behind the header', () => {
    expect(encodeFeature(0x1234, 'set', hex('aa bb cc'))).toEqual(hex('0b 00 00 00  34 12 02 00  aa bb cc'));
  });

  it.each([-1, 0x1_0000, 1.5])('refuses feature %d, which would run into the flags', (feature) => {
    caught(() => encodeFeature(feature, 'get'), 'VFIO_E_RANGE');
  });

  it('can be read back', () => {
    fc.assert(
      fc.property(fc.nat(0xffff), fc.constantFrom<FeatureAccess>('get', 'set', 'probe', 'probe-get', 'probe-set'), fc.uint8Array(), (feature, access, payload) => {
        const bytes = encodeFeature(feature, access, payload);
        expect(readFeatureHeader(bytes)).toEqual({
          feature,
          get: access.endsWith('get'),
          set: access.endsWith('set'),
          probe: access.startsWith('probe'),
        });
        const view = featurePayload(bytes, feature, payload.length, origin);
        expect(Array.from({ length: view.byteLength }, (_, i) => view.getUint8(i))).toEqual([...payload]);
      }),
    );
  });
});

describe('featurePayload', () => {
  it('refuses an answer about another feature', () => {
    expect(caught(() => featurePayload(hex('08 00 00 00 02 00 01 00'), 1, 0, origin), 'VFIO_E_PROTOCOL').message)
      .toContain('at byte 4 of the answer: feature 2 answered, 1 was asked');
  });

  it('refuses a payload that is cut off', () => {
    caught(() => featurePayload(hex('0b 00 00 00 01 00 01 00 00 00 00'), 1, 4, origin), 'VFIO_E_PROTOCOL');
  });

  it('survives any bytes', () => {
    survivesAnyBytes((bytes) => featurePayload(bytes, 1, 4, origin).getUint32(0, true), fc.uint8Array().map((payload) => encodeFeature(1, 'get', payload)));
  });
});
