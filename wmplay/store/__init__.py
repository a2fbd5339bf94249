"""The store: trajectories on disk, for data sets and for replay.

A store is a directory::

    manifest.json        the list of the store's columns and shards
    metadata.json        facts about the whole data, for example the env it comes from
    shards/<name>/       trajectories end to end, as plain .npy files; never changed (shard.py)
    shards/.writing-*/   a writer's new shards, which no reader opens
    .lock                held for a moment while the manifest changes

A writer prepares new shards in a folder of its own. Then, holding the lock, it reads the manifest, moves its
shards into place and renames a new manifest over the old one. At that rename all of the trajectories join the
store at once; a writer that is killed before it adds none. Readers take no lock: they read one manifest and
map the files that it names, and their view does not change while others append. Each append merges small
shards into larger ones, so that a store of many small appends stays fast to read.

Appending deletes no files, so the store can return to any earlier ``snapshot()``, until ``vacuum()``. Nothing
is flushed to the disk: a killed process loses nothing that was saved, but a power cut may (``verify()``
detects it).
"""

from wmplay.store.view import Store, load_trajectories, save_trajectories

__all__ = ["Store", "load_trajectories", "save_trajectories"]
