package homekv.cli;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.concurrent.locks.ReentrantLock;

/**
 * A file that is there once it is complete, and forced to the disk, and not before: it is written beside its name as
 * {@code NAME.<process>.tmp}. What is no regular file, such as a device, is written as it is.
 *
 * <p>For one thread, but for {@link #abandon}.
 */
final class NewFile implements AutoCloseable {
    private final Path target;

    /** Where it is written; the target itself if that is no regular file. */
    private final Path written;

    private final FileChannel channel;
    private final ReentrantLock lock = new ReentrantLock();
    private boolean ended;

    private NewFile(Path target, Path written, FileChannel channel) {
        this.target = target;
        this.written = written;
        this.channel = channel;
    }

    /** Begins a file. An older one of that name is replaced when this one is complete. */
    static NewFile create(String typed) throws IOException {
        Path name;
        try {
            name = Path.of(Text.utf8(typed));
        } catch (InvalidPathException e) {
            throw new IOException(why(e), e);
        }
        // Behind a symbolic link, the file that it names is replaced, and not the link.
        Path target = Files.exists(name) ? name.toRealPath() : name.toAbsolutePath();
        if (Files.exists(target) && !Files.isRegularFile(target)) {
            return new NewFile(target, target, FileChannel.open(target, StandardOpenOption.WRITE));
        }
        Path written = target.resolveSibling(
                target.getFileName() + "." + ProcessHandle.current().pid() + ".tmp");
        FileChannel channel = FileChannel.open(
                written, StandardOpenOption.WRITE, StandardOpenOption.CREATE, StandardOpenOption.TRUNCATE_EXISTING);
        return new NewFile(target, written, channel);
    }

    /** Why a file could not be used, in words for a message. */
    static String why(Exception e) {
        return switch (e) {
            case NoSuchFileException none -> "there is no such file or directory";
            case AccessDeniedException denied -> "permission denied";
            case InvalidPathException invalid -> "no file can have that name here";
            case FileSystemException other ->
                other.getReason() == null ? "the system gives no reason" : Text.oneLine(other.getReason());
            default -> Text.oneLine(String.valueOf(e.getMessage()));
        };
    }

    /** What is written to it goes to the file without a detour. */
    OutputStream out() {
        return Channels.newOutputStream(channel);
    }

    /** Makes it the file of its name. */
    void complete() throws IOException {
        lock.lock();
        try {
            if (ended) {
                throw new IOException("interrupted");
            }
            if (written.equals(target)) {
                channel.close();
            } else {
                channel.force(true);
                channel.close();
                Files.move(written, target, StandardCopyOption.ATOMIC_MOVE);
                try (FileChannel directory = FileChannel.open(target.getParent())) {
                    directory.force(true);
                }
            }
            ended = true;
        } finally {
            lock.unlock();
        }
    }

    /** Takes away what has been written, unless it is complete; whoever still writes does not notice. Any thread. */
    void abandon() throws IOException {
        lock.lock();
        try {
            if (!ended) {
                ended = true;
                if (!written.equals(target)) {
                    Files.deleteIfExists(written);
                }
            }
        } finally {
            lock.unlock();
        }
    }

    /** Takes away what has been written, unless it is complete. */
    @Override
    public void close() throws IOException {
        abandon();
        channel.close();
    }
}
