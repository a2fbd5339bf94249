"""The store: trajectories on disk, for data sets and for replay alike.

A store is a directory::

    manifest.json        what belongs to the store: its columns, and its shards in order
    metadata.json        what is known of the data as a whole, such as the env it was made with
    shards/<name>/       trajectories end to end, as plain .npy files; never changed (shard.py)
    shards/.writing-*/   where a writer prepares its shards; nobody reads it
    .lock                held for a moment while the manifest changes

A writer prepares new shards beside the others. Then, holding the lock, it reads the manifest, moves its
shards into place and renames a new manifest over the old one. At that rename the trajectories join the
store, all of them or none, whatever kills the writer. Readers take no lock: they read one manifest and
map what it names, and that view stays as it is while others append. Small shards are merged into larger
ones as they come, so any number of small appends stays quick to read.

Appending deletes no files, so the store can return to any earlier ``snapshot()``, until ``vacuum()``.
Nothing is flushed to the medium: a killed process loses nothing that was saved, a power cut may
(``verify()`` then tells).
"""

from wmplay.store.view import Store, load_trajectories, save_trajectories

__all__ = ["Store", "load_trajectories", "save_trajectories"]
