// SPDX-License-Identifier: GPL-2.0
/*
 * The rows of the protocol, and the reasons for which areas are withheld, as
 * functions of values.
 */
#include <linux/kernel.h>

#include "remap.h"

const struct remap_row remap_rows[] = {
	{ .name = "doorbell-value", .irq = true, .ack = REMAP_ACK_VALUE },
	{ .name = "doorbell-none", .irq = true, .ack = REMAP_ACK_NONE },
	{ .name = "bitmap-value", .irq = true, .bitmap = true, .ack = REMAP_ACK_VALUE },
	{ .name = "bitmap-none", .irq = true, .bitmap = true, .ack = REMAP_ACK_NONE },
	{ .name = "rfc-v4", .irq = true, .bitmap = true, .ack = REMAP_ACK_BARE },
	{ .name = "saving-layout", .saving_layout = true },
	{ .name = "static" },
};

const unsigned int remap_num_rows = ARRAY_SIZE(remap_rows);

const struct remap_row *remap_default_row(void)
{
	return &remap_rows[0];
}

/* Which regions a reason is about: bits within one page. */
static const struct {
	unsigned int page;
	u64 bits;
	u32 region;	/* revoked by itself; U32_MAX: by the state */
} remap_reasons[REMAP_NUM_REASONS] = {
	[REMAP_REASON_SAVING0] = { 0, BIT(REMAP_REGION_MAILBOX) | BIT(REMAP_REGION_SPARSE),
				   U32_MAX },
	[REMAP_REASON_SAVING1] = { 1, BIT(REMAP_REGION_FAR % 64), U32_MAX },
	[REMAP_REASON_REGION0] = { 0, BIT(REMAP_REGION_MAILBOX), REMAP_REGION_MAILBOX },
	[REMAP_REASON_REGION1] = { 0, BIT(REMAP_REGION_SPARSE), REMAP_REGION_SPARSE },
	[REMAP_REASON_REGION64] = { 1, BIT(REMAP_REGION_FAR % 64), REMAP_REGION_FAR },
	[REMAP_REASON_REGION65] = { 1, BIT(REMAP_REGION_FARTHER % 64), REMAP_REGION_FARTHER },
};

u64 remap_reason_bits(u32 reasons, unsigned int page)
{
	unsigned int reason;
	u64 bits = 0;

	for (reason = 0; reason < REMAP_NUM_REASONS; reason++)
		if ((reasons & BIT(reason)) && remap_reasons[reason].page == page)
			bits |= remap_reasons[reason].bits;
	return bits;
}

u32 remap_page_reasons(unsigned int page)
{
	unsigned int reason;
	u32 reasons = 0;

	for (reason = 0; reason < REMAP_NUM_REASONS; reason++)
		if (remap_reasons[reason].page == page)
			reasons |= BIT(reason);
	return reasons;
}

/* What entering the saving group revokes: of every page that there is. */
u32 remap_saving_reasons(struct remap_device *rd)
{
	return BIT(REMAP_REASON_SAVING0) | (rd->pages > 1 ? BIT(REMAP_REASON_SAVING1) : 0);
}

bool remap_reason_of_region(struct remap_device *rd, u32 region, enum remap_reason *reason)
{
	unsigned int i;

	for (i = 0; i < REMAP_NUM_REASONS; i++) {
		if (remap_reasons[i].region == region && remap_reasons[i].page < rd->pages) {
			*reason = i;
			return true;
		}
	}
	return false;
}
