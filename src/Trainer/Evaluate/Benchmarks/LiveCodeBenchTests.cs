using System.Collections;
using System.Text.Json;

namespace Z1Coder.Trainer.Evaluate.Benchmarks;

/// <summary>
/// The tests of one LiveCodeBench task, in the order of the fields. What a file packs stays packed here and is unpacked whenever they are gone
/// through: unpacked, those of one file take several times its size. Reading unpacks them once, so that a broken file is refused there.
/// </summary>
internal sealed class LiveCodeBenchTests : IReadOnlyCollection<ScriptCase>
{
    private static readonly string[] s_fields = ["public_test_cases", "private_test_cases", "harvested_private_test_cases", "tests"];

    private readonly List<(byte[]? Packed, List<ScriptCase> Plain)> _parts = [];
    private volatile WeakReference<List<ScriptCase>> _last;     // answers to one task come one after the other

    /// <summary>Reads those of a row.</summary>
    /// <exception cref="Data.InvalidInputException">A field is wrong, or there is no test: file, line and field.</exception>
    internal LiveCodeBenchTests(BenchmarkRow row)
    {
        var all = new List<ScriptCase>();
        foreach (var field in s_fields)
        {
            var (packed, tests) = PartOf(row, field);
            if (tests is null && field == s_fields[0])
            {
                throw row.Error(field, "is missing; it must be a list of tests");
            }

            foreach (var (_, type) in tests ?? [])
            {
                IsMixed |= Count > 0 && type == "functional" != IsFunctional;
                IsFunctional = Count++ == 0 ? type == "functional" : IsFunctional;
            }

            List<ScriptCase> cases = [.. (tests ?? []).Select(t => t.Case)];
            all.AddRange(cases);
            _parts.Add((packed, packed is null ? cases : []));
        }

        _last = new(all);
        if (Count == 0)
        {
            throw row.Error(s_fields[0], "holds no test; anything would pass");
        }
    }

    /// <inheritdoc/>
    public int Count { get; }

    /// <summary>True when the first calls a method.</summary>
    internal bool IsFunctional { get; }

    /// <summary>True when some call a method and some run a script.</summary>
    internal bool IsMixed { get; }

    /// <inheritdoc/>
    public IEnumerator<ScriptCase> GetEnumerator()
    {
        if (!_last.TryGetTarget(out var all))
        {
            all = [.. _parts.SelectMany(p => p.Packed is null ? p.Plain : Unpacked(p.Packed)!.Select(t => t.Case))];
            _last = new(all);
        }

        return all.GetEnumerator();
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    // An array, the JSON text of one, or that text pickled, compressed and written in base64; null when it is absent.
    private static (byte[]? Packed, List<(ScriptCase Case, string Type)>? Tests) PartOf(BenchmarkRow row, string field)
    {
        try
        {
            if (row.Find(field) is not { } value)
            {
                return (null, null);
            }

            if (value.ValueKind != JsonValueKind.String)
            {
                return (null, TestsIn(value));
            }

            if (!value.TryGetBytesFromBase64(out var packed))
            {
                var text = value.GetString()!;
                if (text.TrimStart() is ['[', ..])
                {
                    return (null, Parsed(() => JsonDocument.Parse(text)));
                }

                packed = Packed(() => Convert.FromBase64String(text));
            }

            // Beside the large object heap, which takes garbage in proportion to what it keeps.
            var kept = GC.AllocateUninitializedArray<byte>(packed.Length, pinned: true);
            packed.CopyTo(kept, 0);
            return (kept, Unpacked(packed));
        }
        catch (FormatException e)
        {
            throw row.Error(field, e.Message);
        }
        catch (InvalidOperationException)           // JsonElement's word for half a surrogate pair
        {
            throw row.Error(field, "is not valid Unicode text");
        }
    }

    private static List<(ScriptCase Case, string Type)>? Unpacked(byte[] packed)
    {
        var text = Packed(() => PickledText.Decode(packed));
        return Parsed(() => JsonDocument.Parse(text));
    }

    private static T Packed<T>(Func<T> read)
    {
        try
        {
            return read();
        }
        catch (FormatException e)
        {
            throw new FormatException($"is neither JSON nor a packed list of tests: {e.Message}", e);
        }
    }

    private static List<(ScriptCase Case, string Type)>? Parsed(Func<JsonDocument> parse)
    {
        try
        {
            using var document = parse();
            return TestsIn(document.RootElement);
        }
        catch (JsonException e)
        {
            throw new FormatException($"holds text that is not JSON ({e.Message.TrimEnd('.')})", e);
        }
    }

    private static List<(ScriptCase Case, string Type)>? TestsIn(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Null => null,
        JsonValueKind.Array => [.. value.EnumerateArray().Select(test => (new ScriptCase(Part(test, "input"), Part(test, "output")), Part(test, "testtype")))],
        _ => throw new FormatException("is not a list of tests"),
    };

    private static string Part(JsonElement test, string name) =>
        test.ValueKind == JsonValueKind.Object && test.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String
            ? value.GetString()!
            : throw new FormatException($"holds a test without a string \"{name}\"");
}
