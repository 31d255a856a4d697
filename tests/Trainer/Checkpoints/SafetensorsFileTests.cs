using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using FsCheck;
using FsCheck.Fluent;
using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Tests.Trainer.Checkpoints;

public sealed class SafetensorsFileTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<string, int, string> Lies => new()
    {
        // header, bytes of data, what the sentence says
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}""", 8, "not valid JSON" },
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}{}""", 8, "not valid JSON" },
        { """[]""", 0, "does not begin with '{'" },
        { " {}", 0, "does not begin with '{'" },
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}""", 16, "'a' twice" },
        { """{"__metadata__":{"x":"1","x":"2"}}""", 0, "__metadata__ that names 'x' twice" },
        { """{"__metadata__":{"x":1}}""", 0, "'x' is not a string" },
        { """{"__metadata__":[]}""", 0, "not an object of strings" },
        { """{"__metadata__":{},"__metadata__":{}}""", 0, "'__metadata__' twice" },
        { """{"a":7}""", 0, "tensor 'a' is not an object" },
        { """{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}""", 8, "dtype 'F33'" },
        { """{"a":{"dtype":4,"shape":[2],"data_offsets":[0,8]}}""", 8, "dtype 'Number'" },
        { """{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 8, "key dtype twice" },
        { """{"a":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}""", 8, "key shape twice" },
        { """{"a":{"shape":[2],"data_offsets":[0,8]}}""", 8, "no dtype" },
        { """{"a":{"dtype":"F32","data_offsets":[0,8]}}""", 8, "no shape" },
        { """{"a":{"dtype":"F32","shape":[2]}}""", 8, "no data_offsets" },
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}}""", 8, "no data_offsets" },
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}}""", 8, "more than 2 entries" },
        { """{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}""", 8, "shape with an entry" },
        { """{"a":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}}""", 8, "shape with an entry" },
        { """{"a":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}}""", 8, "shape with an entry" },
        { """{"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,8]}}""", 8, "shape with an entry" },
        { """{"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}}""", 8, "not an array" },
        { """{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}""", 8, "12 bytes, but its data_offsets [0, 8] span 8" },
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,12]}}""", 8, "holds 8 bytes" },
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}""", 8, "data_offsets [8, 0]" },
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[9223372036854775800,9223372036854775807]}}""", 8, "holds 8 bytes" },
        { """{"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,8]}}""", 8, "too large" },
        { """{"a":{"dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,8]}}""", 8, "too large" },
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}""", 12, "'b' begins at byte 4 of the data and overlaps" },
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 8, "overlaps" },
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}""", 16, "leaves a hole" },
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}""", 12, "leaves a hole" },
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 9, "1 bytes after its last tensor" },
        { """{}""", 1, "1 bytes after its last tensor" },
        { """{"\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 8, "not valid JSON" },
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":[[[[[[[[[[]]]]]]]]]]}}""", 8, "not valid JSON" },
    };

    [Theory, MemberData(nameof(Lies))]
    public void A_lie_in_the_header_is_named_in_one_sentence(string header, int dataBytes, string says)
    {
        var path = _folder.Write("lie.safetensors", Bytes(header, dataBytes));
        var message = Assert.Throws<InvalidInputException>(() => SafetensorsFile.Open(path)).Message;
        Assert.Contains(says, message);
        Assert.Contains(path, message);
        Assert.DoesNotContain('\n', message);
    }

    [Fact]
    public void More_axes_than_any_library_has_are_refused()
    {
        var shape = string.Join(',', Enumerable.Repeat("1", 65));
        var path = _folder.Write("axes.safetensors", Bytes($$$"""{"a":{"dtype":"U8","shape":[{{{shape}}}],"data_offsets":[0,1]}}""", 1));
        Assert.Contains("more than 64", Assert.Throws<InvalidInputException>(() => SafetensorsFile.Open(path)).Message);
    }

    [Theory]
    [InlineData(0ul, "smallest header")]
    [InlineData(1ul, "smallest header")]
    [InlineData(3ul, "only 2 bytes follow")]
    [InlineData(99_000_000ul, "only 2 bytes follow")]
    [InlineData(100_000_001ul, "at most 100000000")]
    [InlineData(ulong.MaxValue, "at most 100000000")]
    public void A_false_header_length_costs_no_memory(ulong length, string says)
    {
        var bytes = Bytes("{}", 0);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, length);
        var path = _folder.Write("length.safetensors", bytes);
        Assert.Throws<InvalidInputException>(() => SafetensorsFile.Open(path));
        var before = GC.GetAllocatedBytesForCurrentThread();
        var message = Assert.Throws<InvalidInputException>(() => SafetensorsFile.Open(path)).Message;
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 100_000);
        Assert.Contains(says, message);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(7)]
    public void A_file_shorter_than_its_length_prefix_is_refused(int bytes) =>
        Assert.Contains("too short", Assert.Throws<InvalidInputException>(() => SafetensorsFile.Open(_folder.Write("short", new byte[bytes]))).Message);

    [Fact]
    public void Invalid_utf8_is_refused()
    {
        var bytes = Bytes("""{"a?":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 8);
        bytes[8 + 3] = 0xFF;
        Assert.Contains("UTF-8", Assert.Throws<InvalidInputException>(() => SafetensorsFile.Open(_folder.Write("utf8", bytes))).Message);
    }

    [Fact]
    public void A_header_of_a_hundred_megabytes_is_read_in_a_few_times_its_size()
    {
        var json = new byte[SafetensorsHeader.LongestHeader];
        json.AsSpan().Fill((byte)' ');
        "{"u8.CopyTo(json);
        json[^1] = (byte)'}';
        var path = Write("spaces", json);
        using (var file = SafetensorsFile.Open(path))
        {
            Assert.Empty(file.Tensors);
        }

        // "{[[[[…" and one tensor with fifty million axes
        json.AsSpan(1).Fill((byte)'[');
        Assert.Throws<InvalidInputException>(() => SafetensorsFile.Open(Write("nested", json)));
        var start = """{"a":{"dtype":"U8","shape":[1"""u8;
        start.CopyTo(json);
        for (var i = start.Length; i + 1 < json.Length; i += 2)
        {
            ",1"u8.CopyTo(json.AsSpan(i));
        }

        path = Write("axes", json);
        var before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Throws<InvalidInputException>(() => SafetensorsFile.Open(path));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, json.Length + 1_000_000);

        string Write(string name, byte[] header)
        {
            using var stream = File.Create(_folder[name]);
            stream.Write(BitConverter.GetBytes((ulong)header.Length));
            stream.Write(header);
            return _folder[name];
        }
    }

    [Fact]
    public void What_is_not_a_file_is_refused()
    {
        Assert.Contains("cannot read", Assert.Throws<InvalidInputException>(() => SafetensorsFile.Open(_folder["absent"])).Message);
        Assert.Contains("cannot read", Assert.Throws<InvalidInputException>(() => SafetensorsFile.Open(_folder.Path)).Message);
        Assert.Throws<InvalidInputException>(() => SafetensorsFile.Open("a\0b"));
        if (OperatingSystem.IsLinux())
        {
            Assert.Throws<InvalidInputException>(() => SafetensorsFile.Open("/dev/zero"));
        }
    }

    [Fact]
    public void Names_from_outside_cannot_forge_lines_of_output()
    {
        var path = _folder.Write("name", Bytes("""{"a\n\u001b[31m":{"dtype":"F32","shape":[9],"data_offsets":[0,8]}}""", 8));
        Assert.Contains("'a??[31m'", Assert.Throws<InvalidInputException>(() => SafetensorsFile.Open(path)).Message);
    }

    [Fact]
    public void Keys_that_the_format_does_not_know_are_passed_over_and_order_is_that_of_the_bytes()
    {
        var header = """{"b":{"x":{"y":[1]},"dtype":"U8","shape":[],"data_offsets":[2,3]},"empty":{"dtype":"F32","shape":[0,5],"data_offsets":[2,2]},"a":{"dtype":"I8","shape":[1,2],"data_offsets":[0,2]}}   """;
        using var file = SafetensorsFile.Open(_folder.Write("order", Bytes(header, 3)));
        Assert.Equal(["a", "empty", "b"], file.Tensors.Select(t => t.Name));
        Assert.Equal(3, file["b"].Offset - file["a"].Offset + 1);
        Assert.Equal([2], file.ReadInts("b"));
        Assert.Equal([0, 1], file.ReadInts("a"));
        Assert.Empty(file.ReadFloats("empty"));
    }

    [Fact]
    public void Every_float_type_reads_as_float_bfloat16_and_double()
    {
        float[] values = [0, -0f, 1, -2.5f, 65504, 1.1754944e-38f, float.PositiveInfinity, float.NaN, 3.140625f, 1f / 3];
        var path = WriteAll(values);
        using var file = SafetensorsFile.Open(path);
        foreach (var (name, stored) in new (string, Func<float, double>)[]
        {
            ("f64", v => v), ("f32", v => v), ("bf16", v => (float)(BFloat16)v), ("f16", v => (float)(Half)v),
        })
        {
            var floats = new float[values.Length];
            var brains = new BFloat16[values.Length];
            file.Read(name, floats);
            file.Read(name, brains);
            Assert.Equal(values.Select(v => (float)stored(v)), floats);
            Assert.Equal(values.Select(v => (BFloat16)(float)stored(v)), brains);
            Assert.Equal(values.Select(stored), file.ReadDoubles(name));
            var part = new float[3];
            file.Read(name, 2, part);
            Assert.Equal(floats[2..5], part);
        }
    }

    [Fact]
    public void Asking_for_the_wrong_thing_gets_a_sentence()
    {
        using var file = SafetensorsFile.Open(WriteAll([1, 2]));
        Assert.Contains("'f32'", Assert.Throws<InvalidInputException>(() => file.ReadFloats("f23")).Message);
        Assert.Contains("3 were asked for", Assert.Throws<InvalidInputException>(() => file.Read("f32", new float[3])).Message);
        Assert.Contains("3 were asked for", Assert.Throws<InvalidInputException>(() => file.ReadBytes("f32", new byte[3])).Message);
        Assert.Contains("I64; floats", Assert.Throws<InvalidInputException>(() => file.ReadFloats("i64")).Message);
        Assert.Contains("F32; whole numbers", Assert.Throws<InvalidInputException>(() => file.ReadInts("f32")).Message);
        Assert.Contains("does not fit 32 bits", Assert.Throws<InvalidInputException>(() => file.ReadInts("i64")).Message);
        Assert.Throws<ArgumentOutOfRangeException>(() => file.Read("f32", 1, new float[2]));
        Assert.Throws<ArgumentOutOfRangeException>(() => file.Read("f32", -1, new float[2]));
        Assert.Throws<ArgumentOutOfRangeException>(() => file.Read("f32", long.MaxValue, new float[2]));
    }

    [Fact]
    public void A_tensor_of_more_than_two_gigabytes_reads_in_pieces_and_whole()
    {
        // a sparse file: the hole costs no disk; the whole read runs where memory is plentiful
        const long Elements = (1L << 30) + 5000;
        var path = _folder["big"];
        using (var stream = File.Create(path))
        {
            _ = new SafetensorsWriter(stream, [new("big", SafetensorDtype.BF16, Elements), new("after", SafetensorDtype.F32, 1)]);
            stream.Seek(2 * (Elements - 3), SeekOrigin.Current);
            stream.Write([0x80, 0x3F, 0x00, 0x40, 0x40, 0x40, 0, 0, 0x28, 0x42]);
        }

        using var file = SafetensorsFile.Open(path);
        var last = new float[4];
        file.Read("big", Elements - 4, last);
        Assert.Equal([0, 1, 2, 3], last);
        Assert.Equal([42f], file.ReadFloats("after"));
        if (GC.GetGCMemoryInfo().TotalAvailableMemoryBytes < 16L << 30)
        {
            Assert.Skip("the whole read needs 2 GiB of memory to spare");
        }

        var whole = GC.AllocateUninitializedArray<BFloat16>((int)Elements);
        var bits = MemoryMarshal.Cast<BFloat16, ushort>(whole.AsSpan());
        bits.Fill(0x7FFF);                     // a NaN; as integers, because the runtime fills and scans those many at a time
        file.Read("big", whole);
        Assert.Equal([1f, 2f, 3f], whole[^3..].Select(v => (float)v));
        Assert.Equal(-1, bits[..^3].IndexOfAnyExcept((ushort)0));
    }

    [Fact]
    public void A_file_that_shrinks_after_opening_is_noticed()
    {
        var path = WriteAll([1, 2]);
        using var file = SafetensorsFile.Open(path);
        using (var stream = new FileStream(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
        {
            stream.SetLength(file.Tensors[^1].Offset);
        }

        Assert.Contains("shorter", Assert.Throws<InvalidInputException>(() => file.ReadBytes(file.Tensors[^1].Name, new byte[file.Tensors[^1].Bytes])).Message);
    }

    [Fact]
    public void Random_bytes_never_get_past_the_check()
    {
        var path = _folder["fuzz"];
        Prop.ForAll(ArbMap.Default.ArbFor<byte[]>(), bytes => Survives(path, bytes)).Check(Config.QuickThrowOnFailure.WithMaxTest(300));
    }

    [Fact]
    public void Mutated_headers_are_refused_or_still_true()
    {
        var valid = File.ReadAllBytes(WriteAll([1, 2, 3]));
        var headerEnd = 8 + (int)BitConverter.ToUInt64(valid);
        var path = _folder["fuzz"];
        var edit = Gen.Choose(0, 3).SelectMany(_ => Gen.Choose(0, headerEnd - 1), (kind, at) => (kind, at))
            .SelectMany(_ => Gen.Choose(0, 255), (e, value) => (e.kind, e.at, value: (byte)value));
        var edits = edit.ListOf().Resize(4);
        Prop.ForAll(edits.ToArbitrary(), list => Survives(path, Mutate(valid, list))).Check(Config.QuickThrowOnFailure.WithMaxTest(3000));
    }

    [Fact]
    public void Invented_headers_are_refused_or_true()
    {
        // few names, extents and offsets, so that valid, overlapping and gaping headers all occur
        var number = Gen.Elements("0", "1", "2", "4", "8", "12", "16", "-1", "9223372036854775807", "4611686018427387904", "1e3", "\"2\"");
        var numbers = number.ListOf().Resize(3).Select(n => $"[{string.Join(',', n)}]");
        var tensor =
            from name in Gen.Elements("a", "b", "c", "__metadata__")
            from dtype in Gen.Elements("F32", "F64", "BF16", "U8", "I64", "F4")
            from shape in numbers
            from begin in number
            from end in number
            select $$""" "{{name}}":{"dtype":"{{dtype}}","shape":{{shape}},"data_offsets":[{{begin}},{{end}}]}""";
        var file = tensor.ListOf().Resize(3).SelectMany(_ => Gen.Elements(0, 1, 2, 4, 8, 12, 16), (t, data) => Bytes($"{{{string.Join(',', t)}}}", data));
        var path = _folder["fuzz"];
        Prop.ForAll(file.ToArbitrary(), bytes => Survives(path, bytes)).Check(Config.QuickThrowOnFailure.WithMaxTest(3000));
    }

    public static TheoryData<string> GoldenFiles() =>
        [.. Directory.GetFiles(Goldens.Folder, "*.safetensors", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(Goldens.Folder, f))];

    [Theory, MemberData(nameof(GoldenFiles))]
    public void Golden_files_agree_with_a_plain_reading_of_the_format(string name)
    {
        var bytes = File.ReadAllBytes(Path.Combine(Goldens.Folder, name));
        using var file = SafetensorsFile.Open(Path.Combine(Goldens.Folder, name));
        Assert.True(AgreesWithPlainReading(file, bytes));
    }

    [Fact]
    public void The_real_tiny_llama_is_bfloat16_and_small()
    {
        using var file = SafetensorsFile.Open(Goldens.RequireData("tiny-weights", "verl-arithmetic-llama", "model.safetensors"));
        Assert.Equal(39, file.Tensors.Count);
        Assert.All(file.Tensors, t => Assert.Equal(SafetensorDtype.BF16, t.Dtype));
        Assert.All(file.ReadFloats("model.embed_tokens.weight"), v => Assert.InRange(v, -1f, 1f));
        Assert.Equal("pt", file.Metadata["format"]);
    }

    /// <summary>Only InvalidInputException may come out; what is accepted must be what a plain reading of the JSON says; memory is bounded by the file.</summary>
    private static bool Survives(string path, byte[] bytes)
    {
        File.WriteAllBytes(path, bytes);
        var before = GC.GetAllocatedBytesForCurrentThread();
        try
        {
            using var file = SafetensorsFile.Open(path);
            return AgreesWithPlainReading(file, bytes);
        }
        catch (InvalidInputException e)
        {
            return !e.Message.Contains('\n') && GC.GetAllocatedBytesForCurrentThread() - before < 200_000;
        }
    }

    private static bool AgreesWithPlainReading(SafetensorsFile file, byte[] bytes)
    {
        var headerEnd = 8 + (int)BitConverter.ToUInt64(bytes);
        using var document = JsonDocument.Parse(bytes.AsMemory(8, headerEnd - 8));
        long total = 0;
        var count = 0;
        foreach (var entry in document.RootElement.EnumerateObject().Where(e => e.Name != "__metadata__"))
        {
            var info = file[entry.Name];
            var begin = entry.Value.GetProperty("data_offsets")[0].GetInt32();
            var end = entry.Value.GetProperty("data_offsets")[1].GetInt32();
            var shape = entry.Value.GetProperty("shape").EnumerateArray().Select(e => e.GetInt64()).ToArray();
            var raw = new byte[end - begin];
            file.ReadBytes(entry.Name, raw);
            if (!raw.AsSpan().SequenceEqual(bytes.AsSpan(headerEnd + begin, end - begin)) || !shape.SequenceEqual(info.Shape)
                || info.Dtype.HeaderName() != entry.Value.GetProperty("dtype").GetString())
            {
                return false;
            }

            total += raw.Length;
            count++;
        }

        return total == bytes.Length - headerEnd && count == file.Tensors.Count;
    }

    private static byte[] Mutate(byte[] valid, IList<(int Kind, int At, byte Value)> edits)
    {
        var bytes = valid.ToList();
        foreach (var (kind, at, value) in edits)
        {
            switch (kind)
            {
                case 0:
                    bytes[at % bytes.Count] = value;
                    break;
                case 1:
                    bytes[at % bytes.Count] = (byte)"0123456789,[]{}\":"[value % 17];
                    break;
                case 2:
                    bytes.RemoveAt(at % bytes.Count);
                    break;
                default:
                    bytes.Insert(at % bytes.Count, value);
                    break;
            }
        }

        return [.. bytes];
    }

    private string WriteAll(float[] values)
    {
        var path = _folder["all.safetensors"];
        using var stream = File.Create(path);
        long n = values.Length;
        var writer = new SafetensorsWriter(
            stream,
            [new("f64", SafetensorDtype.F64, n), new("i64", SafetensorDtype.I64, n), new("f32", SafetensorDtype.F32, n),
             new("bf16", SafetensorDtype.BF16, n), new("f16", SafetensorDtype.F16, n)]);
        writer.Write("f64", values.Select(v => (double)v).ToArray());
        writer.Write("i64", Enumerable.Range(0, values.Length).Select(i => long.MaxValue - i).ToArray());
        writer.Write("f32", values);
        writer.Write("bf16", values);
        writer.WriteBytes("f16", values.SelectMany(v => BitConverter.GetBytes((Half)v)).ToArray());
        writer.Complete();
        return path;
    }

    private static byte[] Bytes(string header, int dataBytes)
    {
        var json = Encoding.UTF8.GetBytes(header);
        var data = Enumerable.Range(0, dataBytes).Select(i => (byte)i);
        return [.. BitConverter.GetBytes((ulong)json.Length), .. json, .. data];
    }
}
