package homekv.storage;

import java.io.IOException;
import java.util.List;

/**
 * One directory of a disk, as far as the log needs one. It enters by constructor, so that tests can have one that loses
 * power. What has not been forced may be lost, in part and in any order: bytes of a file by {@link DiskFile#force}; that a
 * file is there, is gone, or has another name by {@link #forceDirectory}.
 *
 * <p>Any thread may call, but a file is used by one thread at a time. Everything blocks. Every error is an IOException
 * that names the file.
 */
interface Disk extends AutoCloseable {
    /** The names of all files, in no order. */
    List<String> list() throws IOException;

    /** A new file, empty. Fails if there is one with this name. */
    DiskFile create(String name) throws IOException;

    /** A file that is there. Fails with a NoSuchFileException if it is not. */
    DiskFile open(String name) throws IOException;

    /** Gives a file another name, whole or not at all. A file that had that name is replaced. */
    void rename(String from, String to) throws IOException;

    /** Deletes a file that is there. */
    void delete(String name) throws IOException;

    /** Returns once the names of the files are as durable as the disk makes anything. */
    void forceDirectory() throws IOException;

    /** How much more can be written. */
    long freeBytes() throws IOException;

    /** What to call a file in a message. */
    String path(String name);

    /**
     * Takes the kernel's lock of the directory, which goes with the process if not before with {@link #close}.
     *
     * @param shared whether others may have it too who asked for it shared
     * @return false: another process, or another disk of this one, has it
     */
    boolean lock(boolean shared) throws IOException;

    /** Lets the lock go. Files that are open stay open. */
    @Override
    void close() throws IOException;
}
