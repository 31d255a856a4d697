using System.Text.Json;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Checkpoints;

public sealed partial class HfDirectory
{
    /// <summary>What transformers takes as the size of a shard when it is not told.</summary>
    public const long DefaultShardBytes = 5_000_000_000;

    private static readonly string[] s_tokenizerFiles =
    [
        TokenizerReader.FileName, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
        "chat_template.jinja",
    ];

    /// <summary>The files of a tokenizer that are copied with a model.</summary>
    internal static IReadOnlyList<string> TokenizerFileNames => s_tokenizerFiles;

    /// <summary>
    /// Writes a model directory that transformers loads: built beside as `….tmp`, flushed to the medium, then renamed, so that the name
    /// never shows half a model. An earlier model of this name is replaced.
    /// </summary>
    /// <param name="directory">to be created; its parent is created too</param>
    /// <param name="config">written as config.json</param>
    /// <param name="tensors">written in this order; their callbacks run one after the other on this thread</param>
    /// <param name="tokenizerSource">the directory whose tokenizer files are copied (those that exist), or null</param>
    /// <param name="eosTokenIds">tokens that end a generation; null takes those of <paramref name="tokenizerSource"/></param>
    /// <param name="maxShardBytes">a file holds at most this many bytes of tensors, or one tensor</param>
    /// <exception cref="InvalidInputException">the disk is full or not writable, or the name is taken by something else</exception>
    public static void Save(
        string directory, Qwen2Config config, IReadOnlyList<HfTensor> tensors, string? tokenizerSource, IReadOnlyList<int>? eosTokenIds = null,
        long maxShardBytes = DefaultShardBytes)
    {
        ArgumentNullException.ThrowIfNull(directory);
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(tensors);
        ArgumentOutOfRangeException.ThrowIfZero(tensors.Count);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxShardBytes, 1);
        var final = Path.TrimEndingDirectorySeparator(Path.GetFullPath(directory));
        var eos = eosTokenIds ?? (tokenizerSource is null ? [] : Qwen2Config.LoadEosTokenIds(tokenizerSource));
        try
        {
            var temporary = Prepare(final);
            WriteWeights(temporary, tensors, maxShardBytes);
            WriteFile(temporary, "config.json", config.ToJson(TorchName(tensors[0].Info.Dtype), eos, null, null));
            WriteFile(temporary, "generation_config.json", Qwen2Config.GenerationToJson(eos, null, null));
            CopyTokenizer(tokenizerSource, temporary);
            Posix.FlushDirectory(temporary);
            Publish(temporary, final);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"cannot write the model {directory}: {e.Message.ReplaceLineEndings(" ")}", e);
        }
    }

    private static string Prepare(string final)
    {
        var (temporary, old) = (final + ".tmp", final + ".old");
        if (!Directory.Exists(final) && Directory.Exists(old))
        {
            Directory.Move(old, final); // an earlier run was stopped between its two renames
        }

        if (File.Exists(final) || (Directory.Exists(final) && !IsModelOrEmpty(final)))
        {
            throw new InvalidInputException($"{final} exists and is not a model directory; it is not replaced, give another name");
        }

        if (Directory.Exists(temporary))
        {
            Directory.Delete(temporary, recursive: true);
        }

        Directory.CreateDirectory(temporary);
        return temporary;
    }

    private static bool IsModelOrEmpty(string directory) =>
        File.Exists(Path.Combine(directory, "config.json")) || !Directory.EnumerateFileSystemEntries(directory).Any();

    private static void Publish(string temporary, string final)
    {
        var old = final + ".old";
        if (Directory.Exists(final))
        {
            if (Directory.Exists(old))
            {
                Directory.Delete(old, recursive: true);
            }

            Directory.Move(final, old);
        }

        Directory.Move(temporary, final);
        Posix.FlushDirectory(Path.GetDirectoryName(final)!);
        if (Directory.Exists(old))
        {
            Directory.Delete(old, recursive: true);
        }
    }

    private static void WriteWeights(string directory, IReadOnlyList<HfTensor> tensors, long maxShardBytes)
    {
        var metadata = new Dictionary<string, string> { ["format"] = "pt" }; // transformers asks for it
        var shards = Split(tensors, maxShardBytes);
        for (var i = 0; i < shards.Count; i++)
        {
            using var file = Create(Path.Combine(directory, ShardName(i, shards.Count)));
            var writer = new SafetensorsWriter(file, shards[i].ConvertAll(t => t.Info), metadata);
            foreach (var tensor in shards[i])
            {
                tensor.Write(writer);
            }

            writer.Complete();
            file.Flush(flushToDisk: true);
        }

        if (shards.Count > 1)
        {
            WriteFile(directory, IndexFile, Index(shards));
        }
    }

    private static List<List<HfTensor>> Split(IReadOnlyList<HfTensor> tensors, long maxShardBytes)
    {
        List<List<HfTensor>> shards = [[]];
        long bytes = 0;
        foreach (var tensor in tensors)
        {
            if (shards[^1].Count > 0 && bytes + tensor.Info.Bytes > maxShardBytes)
            {
                shards.Add([]);
                bytes = 0;
            }

            shards[^1].Add(tensor);
            bytes += tensor.Info.Bytes;
        }

        return shards;
    }

    private static string ShardName(int shard, int count) => count == 1 ? SingleFile : $"model-{shard + 1:D5}-of-{count:D5}.safetensors";

    private static byte[] Index(List<List<HfTensor>> shards)
    {
        using var bytes = new MemoryStream();
        using (var writer = new Utf8JsonWriter(bytes, new JsonWriterOptions { Indented = true }))
        {
            writer.WriteStartObject();
            writer.WriteStartObject("metadata");
            writer.WriteNumber("total_size", shards.Sum(s => s.Sum(t => t.Info.Bytes)));
            writer.WriteEndObject();
            writer.WriteStartObject("weight_map");
            var map = shards.SelectMany((shard, i) => shard.Select(t => (t.Info.Name, File: ShardName(i, shards.Count))));
            foreach (var (name, file) in map.OrderBy(m => m.Name, StringComparer.Ordinal))
            {
                writer.WriteString(name, file);
            }

            writer.WriteEndObject();
            writer.WriteEndObject();
        }

        bytes.WriteByte((byte)'\n');
        return bytes.ToArray();
    }

    private static void CopyTokenizer(string? source, string directory)
    {
        if (source is null)
        {
            return;
        }

        if (!Directory.Exists(source))
        {
            throw new InvalidInputException($"there is no directory {source} to copy the tokenizer from");
        }

        foreach (var (name, content) in TokenizerFiles(source))
        {
            WriteFile(directory, name, content);
        }
    }

    /// <summary>The files of a tokenizer by the names that transformers knows: of a directory those that it has, tokenizer.json unpacked where
    /// it is there as .gz alone; of a tokenizer.json or .gz that one.</summary>
    internal static Dictionary<string, byte[]> TokenizerFiles(string source)
    {
        var files = new Dictionary<string, byte[]>();
        if (!Directory.Exists(source))
        {
            files.Add(TokenizerReader.FileName, TokenizerReader.ReadJson(source));
            return files;
        }

        foreach (var name in s_tokenizerFiles)
        {
            var path = Path.Combine(source, name);
            var packed = name == TokenizerReader.FileName && !File.Exists(path) ? path + ".gz" : path;
            if (File.Exists(packed))
            {
                files.Add(name, packed == path ? File.ReadAllBytes(path) : TokenizerReader.ReadJson(packed));
            }
        }

        return files;
    }

    private static void WriteFile(string directory, string name, byte[] content)
    {
        using var file = Create(Path.Combine(directory, name));
        file.Write(content);
        file.Flush(flushToDisk: true);
    }

    private static FileStream Create(string path) => new(path, FileMode.CreateNew, FileAccess.Write, FileShare.Read, bufferSize: 0);

    private static string TorchName(SafetensorDtype dtype) => dtype switch
    {
        SafetensorDtype.BF16 => "bfloat16",
        SafetensorDtype.F16 => "float16",
        SafetensorDtype.F64 => "float64",
        _ => "float32",
    };
}
