using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Threading.Channels;

namespace Z1Coder.Trainer.Data.Journal;

/// <summary>
/// The finished items of a run of curation or evaluation: kept ones in OUT.jsonl, which is the result itself, the others with their
/// reasons in OUT.dropped.jsonl. There is no other state. A record begins with its item's key (128 bits of SHA-256 over what the item
/// says) and the request's fingerprint.
/// <para>Policy: <see cref="AppendAsync"/> returns when the record is on the medium. One thread writes all records that wait, in one write
/// and one fsync a file (group commit), so the cost of an fsync is shared by as many items as are in flight. A kill, or a power failure,
/// loses no item whose append has returned.</para>
/// <para>Memory: constant in the number of items. Keys that are done stand in a <see cref="DiskTable"/> (40 to 160 bytes a key of disk,
/// while running).</para>
/// </summary>
public sealed class ItemJournal : IDisposable
{
    private const int QueuedRecords = 1024;

    private readonly Fingerprint _fingerprint;
    private readonly JournalFile _kept;
    private readonly string _droppedPath;
    private readonly DiskTable _claimed;
    private readonly Channel<Pending> _queue = Channel.CreateBounded<Pending>(
        new BoundedChannelOptions(QueuedRecords) { SingleReader = true });
    private readonly Task _writer;
    private JournalFile? _dropped;

    /// <summary>Opens OUT.jsonl, or makes it, and reads which items are done.</summary>
    /// <param name="path">OUT.jsonl</param>
    /// <param name="fingerprint">of this run's requests</param>
    /// <param name="allowChanged">whether records of another fingerprint may stay in the file, their items counted as done</param>
    /// <param name="found">told of each record that OUT.jsonl holds: its line number, its key, and itself</param>
    public ItemJournal(
        string path, Fingerprint fingerprint, bool allowChanged, Action<long, UInt128, ReadOnlyMemory<byte>>? found = null)
    {
        ArgumentNullException.ThrowIfNull(fingerprint);
        (_fingerprint, _droppedPath) = (fingerprint, DroppedPath(path));
        var directory = Path.GetDirectoryName(Path.GetFullPath(path))!;
        try
        {
            Directory.CreateDirectory(directory);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"{path} cannot be written ({e.Message.TrimEnd('.')})", e);
        }

        _kept = new JournalFile(path);
        try
        {
            _claimed = new DiskTable(directory);
            Kept = ReadBack(_kept, path, allowChanged, found);
            if (File.Exists(_droppedPath))
            {
                _dropped = new JournalFile(_droppedPath);
                Dropped = ReadBack(_dropped, _droppedPath, allowChanged, null);
            }
        }
        catch
        {
            _kept.Dispose();
            _dropped?.Dispose();
            _claimed?.Dispose();
            throw;
        }

        _writer = Task.Factory.StartNew(WriteAll, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
    }

    /// <summary>Records that OUT.jsonl had when it was opened.</summary>
    public long Kept { get; }

    /// <summary>Records that OUT.dropped.jsonl had when it was opened.</summary>
    public long Dropped { get; }

    /// <summary>Bytes of torn last lines that were cut off.</summary>
    public long TornBytes => _kept.TornBytes + (_dropped?.TornBytes ?? 0);

    /// <summary>Group commits so far: fsync calls.</summary>
    public long Commits { get; private set; }

    /// <summary>Where the items stand that were not kept.</summary>
    public static string DroppedPath(string path) => Path.ChangeExtension(path, null) + ".dropped.jsonl";

    /// <summary>True when the item is done.</summary>
    public bool IsDone(UInt128 key) => _claimed.Contains(key);

    /// <summary>Takes an item for this run; false when it is done, or taken already. One thread at a time.</summary>
    public bool Claim(UInt128 key) => _claimed.TryAdd(key);

    /// <summary>Appends one finished item and returns when it is on the medium.</summary>
    /// <param name="key">the item's</param>
    /// <param name="verdict">kept, or dropped for a reason, which the record then names</param>
    /// <param name="fields">writes the record's own fields</param>
    public Task AppendAsync(UInt128 key, Verdict verdict, Action<Utf8JsonWriter> fields)
    {
        ArgumentNullException.ThrowIfNull(fields);
        var buffer = new ArrayBufferWriter<byte>(4096);
        using (var json = new Utf8JsonWriter(buffer, Fingerprint.Plain))
        {
            json.WriteStartObject();
            json.WriteString("key", key.ToString("x32", CultureInfo.InvariantCulture));
            json.WritePropertyName("request");
            json.WriteRawValue(_fingerprint.Json.Span, skipInputValidation: true);
            if (verdict.Reason is { } reason)
            {
                json.WriteString("verdict", reason);
            }

            fields(json);
            json.WriteEndObject();
        }

        buffer.Write("\n"u8);
        return QueueAsync(new Pending(buffer.WrittenMemory, verdict.IsKept,
            new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)));
    }

    /// <summary>Writes what waits and closes the files.</summary>
    public void Dispose()
    {
        _queue.Writer.TryComplete();
        _writer.GetAwaiter().GetResult();
        _kept.Dispose();
        _dropped?.Dispose();
        _claimed.Dispose();
    }

    private async Task QueueAsync(Pending pending)
    {
        await _queue.Writer.WriteAsync(pending).ConfigureAwait(false);
        await pending.Done.Task.ConfigureAwait(false);
    }

    private void WriteAll()
    {
        var batch = new List<Pending>();
        var (kept, dropped) = (new ArrayBufferWriter<byte>(1 << 16), new ArrayBufferWriter<byte>());
        while (_queue.Reader.WaitToReadAsync().AsTask().GetAwaiter().GetResult())
        {
            kept.ResetWrittenCount();
            dropped.ResetWrittenCount();
            while (batch.Count < QueuedRecords && _queue.Reader.TryRead(out var pending))
            {
                (pending.IsKept ? kept : dropped).Write(pending.Line.Span);
                batch.Add(pending);
            }

            try
            {
                if (kept.WrittenCount > 0)
                {
                    _kept.Append(kept.WrittenSpan, durable: true);
                    Commits++;
                }

                if (dropped.WrittenCount > 0)
                {
                    (_dropped ??= new JournalFile(_droppedPath)).Append(dropped.WrittenSpan, durable: true);
                    Commits++;
                }

                batch.ForEach(p => p.Done.SetResult());
            }
            catch (Exception e) when (e is InvalidInputException or IOException)
            {
                batch.ForEach(p => p.Done.SetException(e));
            }

            batch.Clear();
        }
    }

    private long ReadBack(JournalFile file, string path, bool allowChanged, Action<long, UInt128, ReadOnlyMemory<byte>>? found)
    {
        long count = 0;
        foreach (var line in file.Lines())
        {
            count++;
            if (!TryKey(line.Span, out var key))
            {
                throw new InvalidInputException($"{path} line {count} is no record of a z1 run; name another --out");
            }

            // the usual record is recognised by its bytes; only another fingerprint is parsed
            var request = line.Span[(JournalFile.LineStart.Length + 33)..];
            if (!allowChanged && !(request.StartsWith(",\"request\":"u8) && request[11..].StartsWith(_fingerprint.Json.Span))
                && Changed(line) is { } what)
            {
                throw new InvalidInputException(
                    $"{path} line {count} was asked for in another way: {what}; "
                    + "name another --out, or mix both in one file with --allow-changed");
            }

            _claimed.TryAdd(key);
            found?.Invoke(count, key, line);
        }

        return count;
    }

    private string? Changed(ReadOnlyMemory<byte> line)
    {
        try
        {
            using var document = JsonDocument.Parse(line);
            return document.RootElement.TryGetProperty("request", out var request) ? _fingerprint.Difference(request)
                : "it names no request";
        }
        catch (JsonException)
        {
            return "the line is damaged";
        }
    }

    private static bool TryKey(ReadOnlySpan<byte> line, out UInt128 key)
    {
        key = 0;
        return line.StartsWith(JournalFile.LineStart) && line.Length > JournalFile.LineStart.Length + 33
            && line[JournalFile.LineStart.Length + 32] == (byte)'"' && line.TrimEnd("\r "u8)[^1] == (byte)'}'
            && UInt128.TryParse(Encoding.ASCII.GetString(line.Slice(JournalFile.LineStart.Length, 32)), NumberStyles.AllowHexSpecifier,
                CultureInfo.InvariantCulture, out key);
    }

    private sealed record Pending(ReadOnlyMemory<byte> Line, bool IsKept, TaskCompletionSource Done);
}
