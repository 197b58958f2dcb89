//! What happens to a machine while it runs: things pulled and plugged in, and itself frozen.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::hardware::FREE;
use super::{Disk, Machine, Nic, REACTION};

impl Machine {
    /// Pulls a NIC out of its slot, and waits until the guest has let go of it.
    pub fn pull(&mut self, nic: usize) -> Result<()> {
        let id = format!("nic{nic}");
        self.qmp().command("device_del", &json!({ "id": id }))?;
        let gone =
            |event: &Value| event["event"] == "DEVICE_DELETED" && event["data"]["device"] == *id;
        self.qmp().wait_event("the NIC to be released", REACTION, gone)?;
        self.qmp().forget_events();
        Ok(())
    }

    /// Puts a NIC back into its slot ([`super::Place::Slot`]).
    pub fn put_back(&mut self, nic: usize) -> Result<()> {
        let spec = self.hardware.spec.nics.get(nic).context("no such NIC")?;
        let device = json!({
            "driver": "virtio-net-pci", "id": format!("nic{nic}"), "netdev": format!("net{nic}"),
            "mac": spec.mac, "bus": format!("slot{nic}"), "romfile": "",
            "speed": 10000, "duplex": "full",
        });
        self.qmp().command("device_add", &device).map(drop)
    }

    /// Pulls a NIC's cable, or plugs it in.
    pub fn set_cable(&mut self, nic: usize, plugged: bool) -> Result<()> {
        let arguments = json!({ "name": format!("nic{nic}"), "up": plugged });
        self.qmp().command("set_link", &arguments).map(drop)
    }

    /// Waits until the guest has reset itself, counted from the machine's start or the last reset waited for.
    pub fn wait_reset(&mut self, patience: Duration) -> Result<()> {
        let by_guest = |event: &Value| event["event"] == "RESET" && event["data"]["guest"] == true;
        self.qmp().wait_event("a reset by the guest", patience, by_guest)?;
        self.qmp().forget_events();
        Ok(())
    }

    /// Plugs a NIC into a free slot. Its tap is there already.
    pub fn plug_nic(&mut self, slot: usize, nic: &Nic) -> Result<()> {
        let net = format!("net{}", FREE + slot);
        let netdev = json!({
            "type": "tap", "id": net, "ifname": nic.tap, "script": "no", "downscript": "no",
        });
        self.qmp().command("netdev_add", &netdev)?;
        let device = json!({
            "driver": "virtio-net-pci", "id": format!("nic{}", FREE + slot), "netdev": net,
            "mac": nic.mac, "bus": format!("slot{}", FREE + slot), "romfile": "",
        });
        self.qmp().command("device_add", &device).map(drop)
    }

    /// Pulls a NIC out of a free slot again.
    pub fn unplug_nic(&mut self, slot: usize) -> Result<()> {
        self.pull(FREE + slot)
    }

    /// Plugs a virtio disk into a free slot, made if it is not there yet.
    pub fn plug_disk(&mut self, slot: usize, disk: &Disk) -> Result<()> {
        disk.make(self.folder())?;
        let drive = format!("drive{}", FREE + slot);
        let file = disk.file(self.folder());
        let node = json!({
            "driver": "raw", "node-name": drive, "discard": "unmap",
            "cache": { "no-flush": true },
            "file": { "driver": "file", "filename": file, "cache": { "no-flush": true } },
        });
        self.qmp().command("blockdev-add", &node)?;
        let device = json!({
            "driver": "virtio-blk-pci", "id": format!("disk{}", FREE + slot), "drive": drive,
            "serial": disk.serial, "bus": format!("slot{}", FREE + slot),
            "logical_block_size": disk.sector, "physical_block_size": disk.sector,
        });
        self.qmp().command("device_add", &device).map(drop)
    }

    /// How many bytes the guest has written to the disk in this free slot.
    pub fn written(&mut self, slot: usize) -> Result<u64> {
        self.written_by(&format!("disk{}", FREE + slot))
    }

    /// How many bytes the guest has written to the disk of this serial number.
    pub fn written_to(&mut self, serial: &str) -> Result<u64> {
        let mut disks = self.hardware.spec.disks.iter();
        let number = disks.position(|disk| disk.serial == serial);
        self.written_by(&format!("disk{}", number.with_context(|| format!("no disk {serial}"))?))
    }

    fn written_by(&mut self, device: &str) -> Result<u64> {
        let all = self.qmp().command("query-blockstats", &json!({}))?;
        let is_it = |one: &&Value| {
            let path = one["qdev"].as_str().unwrap_or_default();
            path.split('/').any(|part| part == device)
        };
        let one = all.as_array().into_iter().flatten().find(is_it);
        let bytes = one.and_then(|one| one["stats"]["wr_bytes"].as_u64());
        bytes.with_context(|| format!("QEMU says nothing of {device}"))
    }

    /// Stops it and writes its memory into a file of its folder, from which [`super::Hardware::thaw`] lets it go on.
    pub fn freeze(mut self) -> Result<super::Hardware> {
        let events = json!({ "capabilities": [{ "capability": "events", "state": true }] });
        self.qmp().command("migrate-set-capabilities", &events)?;
        // As fast as the disk takes it.
        self.qmp().command("migrate-set-parameters", &json!({ "max-bandwidth": 0 }))?;
        self.qmp().command("stop", &json!({}))?;
        // The one before may be another machine's as well.
        let _none = std::fs::remove_file(self.folder().join("memory"));
        let into = json!({ "uri": self.hardware().frozen() });
        self.qmp().command("migrate", &into)?;
        let over = |event: &Value| {
            let status = &event["data"]["status"];
            event["event"] == "MIGRATION" && (status == "completed" || status == "failed")
        };
        let event = self.qmp().wait_event("its memory to be written", REACTION, over)?;
        ensure!(event["data"]["status"] == "completed", "its memory could not be written");
        Ok(self.kill())
    }

    /// Goes on once its memory is back.
    pub(super) fn go_on(&mut self) -> Result<()> {
        let console = self.console().clone();
        console.until("its memory is back", REACTION, || {
            let status = self.qmp().command("query-status", &json!({}))?;
            ensure!(status["status"] == "paused", "it is {}", status["status"]);
            Ok(())
        })?;
        self.qmp().command("cont", &json!({})).map(drop)
    }
}
