"""What every step does when something it stands on is gone: the ledger, the bucket, the disk, the clock."""
