// SPDX-License-Identifier: GPL-2.0
/* The module: one parent device with one mdev type, and each mdev's life. */
#include <linux/device.h>
#include <linux/module.h>

#include "remap.h"

static uint migration_flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P |
			      VFIO_MIGRATION_PRE_COPY;
module_param(migration_flags, uint, 0444);
MODULE_PARM_DESC(migration_flags, "0 (no migration), or 1 STOP_COPY with 2 P2P and 4 PRE_COPY added");

static int remap_probe(struct mdev_device *mdev)
{
	struct remap_device *rd;
	int ret;

	rd = vfio_alloc_device(remap_device, vdev, &mdev->dev, &remap_vfio_ops);
	if (IS_ERR(rd))
		return PTR_ERR(rd);
	rd->feature_flags = migration_flags;
	if (migration_flags) {
		rd->vdev.migration_flags = migration_flags;
		rd->vdev.mig_ops = &remap_migration_ops;
	}
	/* Before registering: from then on sysfs and users may arrive. */
	dev_set_drvdata(&mdev->dev, rd);
	ret = vfio_register_emulated_iommu_dev(&rd->vdev);
	if (ret)
		vfio_put_device(&rd->vdev);
	return ret;
}

static void remap_remove(struct mdev_device *mdev)
{
	struct remap_device *rd = dev_get_drvdata(&mdev->dev);

	vfio_unregister_group_dev(&rd->vdev);
	vfio_put_device(&rd->vdev);
}

static struct mdev_driver remap_mdev_driver = {
	.device_api = VFIO_DEVICE_API_PCI_STRING,
	.max_instances = 64,
	.probe = remap_probe,
	.remove = remap_remove,
	.driver = {
		.name = "vfio_region_remap",
		.owner = THIS_MODULE,
		.mod_name = KBUILD_MODNAME,
		.dev_groups = remap_sysfs_groups,
	},
};

/* One type; what a device of it speaks is chosen in sysfs, remap/profile. */
static struct mdev_type remap_type = {
	.sysfs_name = "sample",
	.pretty_name = "device that remaps regions at run time",
};

static struct mdev_type *remap_types[] = { &remap_type };
static struct class remap_class = { .name = "vfio_region_remap" };
static struct device *remap_parent_dev;
static struct mdev_parent remap_parent;

static int __init remap_init(void)
{
	int ret;

	if (!remap_flags_valid(migration_flags))
		return -EINVAL;
	ret = class_register(&remap_class);
	if (ret)
		return ret;
	remap_parent_dev = device_create(&remap_class, NULL, 0, NULL, "vfio_region_remap");
	if (IS_ERR(remap_parent_dev)) {
		ret = PTR_ERR(remap_parent_dev);
		goto err_class;
	}
	ret = mdev_register_driver(&remap_mdev_driver);
	if (ret)
		goto err_device;
	ret = mdev_register_parent(&remap_parent, remap_parent_dev,
				   &remap_mdev_driver, remap_types,
				   ARRAY_SIZE(remap_types));
	if (ret)
		goto err_driver;
	return 0;

err_driver:
	mdev_unregister_driver(&remap_mdev_driver);
err_device:
	device_unregister(remap_parent_dev);
err_class:
	class_unregister(&remap_class);
	return ret;
}

static void __exit remap_exit(void)
{
	mdev_unregister_parent(&remap_parent);
	mdev_unregister_driver(&remap_mdev_driver);
	device_unregister(remap_parent_dev);
	class_unregister(&remap_class);
}

module_init(remap_init);
module_exit(remap_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Sample VFIO vendor driver that remaps regions at run time");
