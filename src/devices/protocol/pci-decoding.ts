import { pciCapabilityId, pciCommand, pciConfigLayout, walkCapabilities } from './pci-capabilities.js';

/** Where the registers stand that decide whether a PCI device answers to its BARs, bytes in configuration space; undefined where it has none. */
export interface DecodingRegisters {
  readonly command: number;
  /** The low byte of the power management control register. */
  readonly power: number | undefined;
  /** Bytes that begin a function level reset when `bit` is written to them. */
  readonly resets: readonly { readonly at: number; readonly bit: number }[];
}

/** What a write to configuration space does to mapped BARs: a mapping of a BAR that the device does not answer to is SIGBUS. */
export interface DecodingEffect {
  /** The registers have to be looked at again. */
  readonly touches: boolean;
  /** The device stops answering, from now on or for a while. */
  readonly suspends: boolean;
  /** The kernel sleeps meanwhile: a power state takes 10 ms and more to reach, a reset 100 ms. */
  readonly slow: boolean;
}

/** In PCI_PM_CTRL, bits 0 and 1; the kernel takes BARs away in D3hot only. */
const powerState = { at: 4, mask: 3, d3hot: 3 } as const;
/** Initiate Function Level Reset: PCI_EXP_DEVCTL bit 15, PCI_AF_CTRL bit 0. */
const expressReset = { at: 9, bit: 1 << 7 } as const;
const advancedFeaturesReset = { at: 4, bit: 1 << 0 } as const;

/** Finds the registers. A broken capability list counts as far as it goes: of the command register at least we know. */
export function decodingRegisters(config: Uint8Array): DecodingRegisters {
  const { found } = walkCapabilities(config);
  const at = (id: number): number | undefined => found.find((capability) => capability.id === id)?.offset;
  const power = at(pciCapabilityId.powerManagement);
  const express = at(pciCapabilityId.express);
  const advanced = at(pciCapabilityId.advancedFeatures);
  return {
    command: pciConfigLayout.command,
    power: power === undefined ? undefined : power + powerState.at,
    resets: [
      ...(express === undefined ? [] : [{ at: express + expressReset.at, bit: expressReset.bit }]),
      ...(advanced === undefined ? [] : [{ at: advanced + advancedFeaturesReset.at, bit: advancedFeaturesReset.bit }]),
    ],
  };
}

/** What writing `bytes` at `offset` does. */
export function decodingEffect(registers: DecodingRegisters, offset: number, bytes: Uint8Array): DecodingEffect {
  const written = (at: number | undefined): number | undefined => (at === undefined ? undefined : bytes[at - offset]);
  const command = written(registers.command);
  const power = written(registers.power);
  const resets = registers.resets.some(({ at, bit }) => ((written(at) ?? 0) & bit) !== 0);
  const slow = resets || power !== undefined;
  const memoryOff = command !== undefined && (command & pciCommand.memorySpace) === 0;
  return { touches: slow || command !== undefined, suspends: resets || memoryOff || (power !== undefined && inD3hot(power)), slow };
}

/** Whether the device answers to its memory BARs, from the low bytes of the two registers. */
export function decodesMemory(command: number, power: number | undefined): boolean {
  return (command & pciCommand.memorySpace) !== 0 && (power === undefined || !inD3hot(power));
}

function inD3hot(power: number): boolean {
  return (power & powerState.mask) === powerState.d3hot;
}
