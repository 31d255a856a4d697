using Z1Coder.Trainer.Checkpoints;

namespace Z1Coder.Tests.Trainer.Checkpoints;

/// <summary>The process dies here; nothing of the product catches it.</summary>
public sealed class PlugPulledException() : Exception("the plug is pulled");

/// <summary>
/// A disk in memory that keeps apart what a program sees and what survives: bytes of a file survive when it was flushed, names in a
/// directory when the directory was. It can die at any operation; <see cref="Restart"/> shows what is left. Several threads may use it.
/// </summary>
internal sealed class ForgetfulDisk : ICheckpointFiles
{
    private Folder _root = new();
    private readonly Lock _lock = new();

    /// <summary>Operations until the plug is pulled; negative: never.</summary>
    public int OperationsLeft { get; set; } = -1;

    /// <summary>Operations so far.</summary>
    public int Operations { get; private set; }

    /// <summary>For tests of the test: the disk claims to have flushed files, or directories, but did not.</summary>
    public bool LiesAboutFiles { get; init; }

    /// <summary>See <see cref="LiesAboutFiles"/>.</summary>
    public bool LiesAboutFolders { get; init; }

    /// <summary>Runs before each operation, outside of any lock: a test holds a thread here.</summary>
    public Action? Before { get; set; }

    /// <summary>When set, creating and writing fail like a full disk.</summary>
    public bool Full { get; set; }

    /// <summary>Another disk with the same files, and the same of them flushed.</summary>
    public ForgetfulDisk Copy()
    {
        lock (_lock)
        {
            return new() { _root = _root.Copy([]), LiesAboutFiles = LiesAboutFiles, LiesAboutFolders = LiesAboutFolders };
        }
    }

    /// <summary>What the next process finds. A killed process loses nothing; a power cut loses what was not flushed: all of it, or some.</summary>
    public void Restart(Random? powerCut, bool loseAll)
    {
        OperationsLeft = -1;
        if (powerCut is not null)
        {
            Forget(_root, powerCut, loseAll);
        }
    }

    public void CreateDirectory(string path)
    {
        Before?.Invoke();
        lock (_lock)
        {
            Step();
            var folder = _root;
            foreach (var name in Parts(path))
            {
                if (!folder.Now.TryGetValue(name, out var next))
                {
                    folder.Change(now => now[name] = next = new Folder());
                }

                folder = (Folder)next!;
            }
        }
    }

    public bool DirectoryExists(string path)
    {
        lock (_lock)
        {
            return Find(path) is Folder;
        }
    }

    public IReadOnlyList<string> Directories(string path)
    {
        lock (_lock)
        {
            return Find(path) is Folder folder ? [.. folder.Now.Where(e => e.Value is Folder).Select(e => e.Key)] : [];
        }
    }

    public IReadOnlyList<string> Files(string path)
    {
        lock (_lock)
        {
            return [.. ((Folder)Find(path)!).Now.Where(e => e.Value is Data).Select(e => e.Key)];
        }
    }

    public Stream Create(string path)
    {
        Before?.Invoke();
        lock (_lock)
        {
            Step();
            var data = new Data();
            Parent(path).Change(now => now[Path.GetFileName(path)] = data);
            return new Writer(this, data);
        }
    }

    public void Flush(Stream file)
    {
        Before?.Invoke();
        lock (_lock)
        {
            Step();
            var data = ((Writer)file).Data;
            data.Flushed = LiesAboutFiles ? data.Flushed : [.. data.Now];
        }
    }

    public void FlushDirectory(string path)
    {
        Before?.Invoke();
        lock (_lock)
        {
            Step();
            if (!LiesAboutFolders)
            {
                ((Folder)Find(path)!).Flush();
            }
        }
    }

    public void Move(string from, string to)
    {
        Before?.Invoke();
        lock (_lock)
        {
            Step();
            var folder = Parent(from);
            if (!folder.Now.ContainsKey(Path.GetFileName(from)) || folder != Parent(to) || folder.Now.ContainsKey(Path.GetFileName(to)))
            {
                throw new IOException($"cannot rename {from} to {to}");
            }

            folder.Change(now =>
            {
                now.Remove(Path.GetFileName(from), out var node);
                now.Add(Path.GetFileName(to), node!);
            });
        }
    }

    public void DeleteFile(string path)
    {
        Before?.Invoke();
        lock (_lock)
        {
            Step();
            Parent(path).Change(now => now.Remove(Path.GetFileName(path)));
        }
    }

    public void DeleteDirectory(string path)
    {
        Before?.Invoke();
        lock (_lock)
        {
            Step();
            if (((Folder)Find(path)!).Now.Count > 0)
            {
                throw new IOException($"{path} is not empty");
            }

            Parent(path).Change(now => now.Remove(Path.GetFileName(path)));
        }
    }

    public long Length(string path)
    {
        lock (_lock)
        {
            return Find(path) is Data data ? data.Now.Count : -1;
        }
    }

    public Stream OpenRead(string path)
    {
        lock (_lock)
        {
            return Find(path) is Data data ? new MemoryStream([.. data.Now]) : throw new FileNotFoundException($"no file {path}");
        }
    }

    /// <summary>Flips one bit of a file.</summary>
    public void Damage(string path, int at) => ((Data)Find(path)!).Now[at] ^= 1;

    private static void Forget(Folder folder, Random random, bool loseAll)
    {
        folder.GoBack(loseAll ? 0 : random.Next(folder.States));
        foreach (var node in folder.Now.Values)
        {
            if (node is Folder inner)
            {
                Forget(inner, random, loseAll);
            }
            else if (node is Data data && !data.Now.SequenceEqual(data.Flushed))
            {
                // a length without its bytes, zeros in their place, or less: all seen on real file systems
                var kept = loseAll ? data.Flushed.Length : random.Next(data.Now.Count + 1);
                var zeros = loseAll || random.Next(2) == 0 ? 0 : random.Next(data.Now.Count - kept + 1);
                data.Now = loseAll ? [.. data.Flushed] : [.. data.Now.Take(kept), .. new byte[zeros]];
                data.Flushed = [.. data.Now];
            }
        }
    }

    private static string[] Parts(string path) => path.Split('/', StringSplitOptions.RemoveEmptyEntries);

    private void Step()
    {
        if (OperationsLeft == 0)
        {
            throw new PlugPulledException();
        }

        OperationsLeft--;
        Operations++;
        if (Full)
        {
            throw new IOException("No space left on device");
        }
    }

    private object? Find(string path)
    {
        object? node = _root;
        foreach (var name in Parts(path))
        {
            if (node is not Folder folder || !folder.Now.TryGetValue(name, out node))
            {
                return null;
            }
        }

        return node;
    }

    private Folder Parent(string path) => Find(Path.GetDirectoryName(path)!) as Folder ?? throw new DirectoryNotFoundException($"nothing at {path}");

    private sealed class Data
    {
        public List<byte> Now { get; set; } = [];

        public byte[] Flushed { get; set; } = [];
    }

    /// <summary>The names at the last flush and after each change since: a power cut leaves one of these states.</summary>
    private sealed class Folder
    {
        private List<Dictionary<string, object>> _history = [[]];

        public Dictionary<string, object> Now => _history[^1];

        public int States => _history.Count;

        public void Change(Action<Dictionary<string, object>> change)
        {
            var next = new Dictionary<string, object>(Now);
            change(next);
            _history.Add(next);
        }

        public void Flush() => _history.RemoveRange(0, _history.Count - 1);

        /// <summary>A file or folder that stands in several states, or under several names, is one in the copy as well.</summary>
        public Folder Copy(Dictionary<object, object> copies) => new()
        {
            _history = [.. _history.Select(state => state.ToDictionary(e => e.Key, e => copies.TryGetValue(e.Value, out var copy)
                ? copy
                : copies[e.Value] = e.Value is Data data ? new Data { Now = [.. data.Now], Flushed = [.. data.Flushed] } : ((Folder)e.Value).Copy(copies)))],
        };

        public void GoBack(int state)
        {
            _history.RemoveRange(state + 1, _history.Count - state - 1);
            Flush();
        }
    }

    private sealed class Writer(ForgetfulDisk disk, Data data) : MemoryStream
    {
        public Data Data => data;

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            // each write is two operations, so that the plug can be pulled in its middle
            var half = buffer.Length / 2;
            disk.Before?.Invoke();
            lock (disk._lock)
            {
                disk.Step();
                data.Now.AddRange(buffer[..half]);
                disk.Step();
                data.Now.AddRange(buffer[half..]);
            }
        }

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));
    }
}
