using System.Diagnostics.CodeAnalysis;
using System.Text.Json;

namespace Z1Coder.Trainer.Data;

/// <summary>
/// The items of a JSON array or the lines of a JSONL stream, one at a time, in a buffer that only grows to the longest item. Nothing
/// is read ahead beyond one buffer, so a file may be larger than memory.
/// </summary>
internal sealed class JsonItems
{
    private const int FirstBuffer = 1 << 16;

    private static ReadOnlySpan<byte> ByteOrderMark => [0xEF, 0xBB, 0xBF];

    private readonly Stream _stream;
    private readonly string _name;
    private byte[] _buffer = new byte[FirstBuffer];
    private int _start, _end;
    private bool _atEnd;
    private long _nextLine = 1;
    private JsonReaderState _state;

    /// <summary>Items of an unpacked stream; <paramref name="name"/> is what errors call it.</summary>
    public JsonItems(Stream stream, string name)
    {
        (_stream, _name) = (stream, name);
        IsArray = StartsWithBracket();
    }

    /// <summary>True for one JSON array, false for one value per line.</summary>
    public bool IsArray { get; }

    /// <summary>Line on which the current item begins, from 1.</summary>
    public long Line { get; private set; }

    /// <summary>Number of the current item, from 0; of an array only.</summary>
    public long Index { get; private set; } = -1;

    /// <summary>Where the current item stands, for an error message.</summary>
    public string Place => IsArray ? $"{_name} item {Index} (line {Line})" : $"{_name} line {Line}";

    /// <summary>The next item's bytes, valid until the next call; false at the end.</summary>
    public bool Next(out ReadOnlyMemory<byte> item) => IsArray ? NextElement(out item) : NextLine(out item);

    private bool NextLine(out ReadOnlyMemory<byte> item)
    {
        var searched = 0;
        while (true)
        {
            var newline = _buffer.AsSpan(_start + searched, _end - _start - searched).IndexOf((byte)'\n');
            searched = newline < 0 ? _end - _start : searched + newline;
            if (newline < 0 && !_atEnd)
            {
                Fill();
                continue;
            }

            if (newline < 0 && searched == 0)
            {
                item = default;
                return false;
            }

            var line = _buffer.AsMemory(_start, searched);
            Line = _nextLine++;
            _start += newline < 0 ? searched : searched + 1;
            searched = 0;
            if (line.Span.StartsWith(ByteOrderMark))
            {
                line = line[3..];       // files joined with cat keep the mark of each
            }

            if (line.Span.IndexOfAnyExcept(" \t\r"u8) >= 0)
            {
                Index++;
                item = line;
                return true;
            }
        }
    }

    private bool NextElement(out ReadOnlyMemory<byte> item)
    {
        item = default;
        try
        {
            while (true)
            {
                var reader = new Utf8JsonReader(_buffer.AsSpan(_start, _end - _start), _atEnd, _state);
                if (reader.Read())
                {
                    var begin = (int)reader.TokenStartIndex;
                    if (reader.CurrentDepth == 0)                           // the brackets of the array itself
                    {
                        Consume(reader);
                        continue;
                    }

                    if (reader.TrySkip())
                    {
                        Line = _nextLine + _buffer.AsSpan(_start, begin).Count((byte)'\n');
                        Index++;
                        item = _buffer.AsMemory(_start + begin, (int)reader.BytesConsumed - begin);
                        Consume(reader);
                        return true;
                    }
                }
                else if (_atEnd)
                {
                    return false;
                }

                // the item is read again from its start, so at least twice as much of it must be there: total work stays linear
                var wanted = 2 * (_end - _start);
                do
                {
                    Fill();
                }
                while (_end - _start < wanted && !_atEnd);
            }
        }
        catch (JsonException e)
        {
            throw new InvalidInputException(
                $"{_name} line {e.LineNumber + 1}: the JSON array is broken after {Index + 1} items, {Reason(e)}; the rest cannot be read", e);
        }
    }

    private void Consume(in Utf8JsonReader reader)
    {
        var consumed = (int)reader.BytesConsumed;
        _nextLine += _buffer.AsSpan(_start, consumed).Count((byte)'\n');
        _start += consumed;
        _state = reader.CurrentState;
    }

    /// <summary>The parser's reason without its coordinates, which are relative to the item.</summary>
    internal static string Reason(JsonException e)
    {
        var text = e.Message;
        var cut = text.IndexOf(" LineNumber:", StringComparison.Ordinal);
        return (cut < 0 ? text : text[..cut]).TrimEnd('.', ' ');
    }

    private bool StartsWithBracket()
    {
        while (_end < 3 && !_atEnd)
        {
            Fill();
        }

        if (_end >= 2 && (_buffer[0], _buffer[1]) is (0xFF, 0xFE) or (0xFE, 0xFF))
        {
            throw new InvalidInputException($"{_name}: the file is UTF-16; save it as UTF-8");
        }

        if (_buffer.AsSpan(0, _end).StartsWith(ByteOrderMark))
        {
            _start = 3;
        }

        while (true)
        {
            var first = _buffer.AsSpan(_start, _end - _start).IndexOfAnyExcept(" \t\r\n"u8);
            if (first >= 0 || _atEnd)
            {
                return first >= 0 && _buffer[_start + first] == '[';
            }

            Fill();
        }
    }

    /// <summary>At least one more byte, or the end.</summary>
    private void Fill()
    {
        if (_end == _buffer.Length && _start > 0)
        {
            _buffer.AsSpan(_start, _end - _start).CopyTo(_buffer);
            (_start, _end) = (0, _end - _start);
        }

        if (_end == _buffer.Length)
        {
            if (_buffer.Length == Array.MaxLength)
            {
                ThrowTooLong();
            }

            Array.Resize(ref _buffer, (int)Math.Min(2L * _buffer.Length, Array.MaxLength));
        }

        int read;
        try
        {
            read = _stream.Read(_buffer, _end, _buffer.Length - _end);
        }
        catch (InvalidDataException e)
        {
            throw new InvalidInputException($"{_name}: the gzip data is damaged or cut short around line {_nextLine}; copy the file again from its source", e);
        }
        catch (IOException e)
        {
            throw new InvalidInputException($"{_name}: cannot be read any further around line {_nextLine} ({e.Message})", e);
        }

        _end += read;
        _atEnd = read == 0;
    }

    [DoesNotReturn]
    private void ThrowTooLong() => throw new InvalidInputException($"{_name}: an item of more than {Array.MaxLength} bytes begins at line {_nextLine}");
}
