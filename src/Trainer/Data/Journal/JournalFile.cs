namespace Z1Coder.Trainer.Data.Journal;

/// <summary>
/// Whole lines, appended. What a kill or a power failure left after the last line break is cut off when the file is opened (or kept, when
/// it is a whole JSON object and lacks only the break); what a failed write left is cut off at once. Held locked against a second process.
/// </summary>
internal sealed class JournalFile : IDisposable
{
    private const int TailBytes = 1 << 16;

    /// <summary>How every line begins; a file that begins otherwise belongs to somebody else and is not touched.</summary>
    internal static ReadOnlySpan<byte> LineStart => "{\"key\":\""u8;

    private readonly FileStream _file;
    private readonly string _path;
    private long _length;

    public JournalFile(string path)
    {
        _path = path;
        try
        {
            _file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 0);
        }
        catch (IOException e) when (File.Exists(path))
        {
            throw new InvalidInputException($"{path} cannot be opened ({e.Message.TrimEnd('.')}); another z1 may be writing it", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"{path} cannot be written ({e.Message.TrimEnd('.')})", e);
        }

        try
        {
            CheckStart();
            CutTornLine();
        }
        catch
        {
            _file.Dispose();
            throw;
        }
    }

    /// <summary>Bytes of a torn last line that were cut off when the file was opened.</summary>
    public long TornBytes { get; private set; }

    /// <summary>Every line so far, without its break.</summary>
    public IEnumerable<ReadOnlyMemory<byte>> Lines()
    {
        if (_length == 0)
        {
            yield break;
        }

        _file.Position = 0;
        var items = new JsonItems(_file, _path);
        while (items.Next(out var line))
        {
            yield return line;
        }
    }

    /// <summary>Appends whole lines and, with <paramref name="durable"/>, returns only when the medium has them.</summary>
    public void Append(ReadOnlySpan<byte> lines, bool durable)
    {
        try
        {
            _file.Position = _length;
            _file.Write(lines);
            if (durable)
            {
                _file.Flush(flushToDisk: true);
            }

            _length += lines.Length;
        }
        catch (IOException e)
        {
            try
            {
                _file.SetLength(_length);
            }
            catch (IOException)
            {
                // the next opening cuts it off
            }

            throw new InvalidInputException($"{_path} cannot be written ({e.Message.TrimEnd('.')}); every line before is kept", e);
        }
    }

    public void Dispose() => _file.Dispose();

    private void CheckStart()
    {
        _length = _file.Length;
        Span<byte> start = stackalloc byte[(int)Math.Min(_length, LineStart.Length)];
        _file.ReadExactly(start);
        if (!LineStart.StartsWith(start))
        {
            throw new InvalidInputException($"{_path} is no file of records of a z1 run; name another --out");
        }
    }

    private void CutTornLine()
    {
        if (_length == 0)
        {
            return;
        }

        var buffer = new byte[TailBytes];
        var end = _length;
        while (end > 0)
        {
            var from = Math.Max(0, end - buffer.Length);
            _file.Position = from;
            _file.ReadExactly(buffer, 0, (int)(end - from));
            var newline = buffer.AsSpan(0, (int)(end - from)).LastIndexOf((byte)'\n');
            if (newline >= 0)
            {
                end = from + newline + 1;
                break;
            }

            end = from;
        }

        if (end == _length)
        {
            return;
        }

        if (IsWholeObject(end))
        {
            _file.Position = _length++;
            _file.Write("\n"u8);
            return;
        }

        TornBytes = _length - end;
        _file.SetLength(_length = end);
        _file.Flush(flushToDisk: true);
    }

    private bool IsWholeObject(long from)
    {
        if (_length - from > Array.MaxLength)
        {
            return false;
        }

        var line = new byte[_length - from];
        _file.Position = from;
        _file.ReadExactly(line);
        try
        {
            using var document = System.Text.Json.JsonDocument.Parse(line);
            return document.RootElement.ValueKind == System.Text.Json.JsonValueKind.Object;
        }
        catch (System.Text.Json.JsonException)
        {
            return false;
        }
    }
}
