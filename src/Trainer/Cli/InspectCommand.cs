using System.CommandLine;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 inspect PATH</summary>
internal static class InspectCommand
{
    public static Command Create()
    {
        var path = new Argument<string>("path") { Description = "a .safetensors file, a model directory, a checkpoint directory or a directory of checkpoints" };
        var json = new Option<bool>("--json") { Description = "as JSON" };
        var command = new Command(
            "inspect",
            """
            What a file or directory holds: names, dtypes, shapes; checkpoints are verified by their hashes.

              z1 inspect runs/demo/stage2/model
              z1 inspect runs/demo/stage2/checkpoints
            """) { path, json };
        command.SetAction(parsed =>
        {
            var (target, asJson) = (parsed.GetValue(path)!, parsed.GetValue(json));
            if (File.Exists(target))
            {
                using var file = SafetensorsFile.Open(target);
                Tensors(target, file.Tensors, file.Metadata, null, asJson);
                return 0;
            }

            if (File.Exists(Path.Combine(target, "config.json")))
            {
                using var model = HfDirectory.Open(target);
                Tensors(target, [.. model.Names.Select(n => model[n])], new Dictionary<string, string>(), model.Config, asJson);
                return 0;
            }

            return Directory.Exists(target) ? Checkpoints(target, asJson) : throw new InvalidInputException($"{target}: no such file or directory");
        });
        return command;
    }

    private static void Tensors(
        string path, IReadOnlyList<SafetensorInfo> tensors, IReadOnlyDictionary<string, string> metadata, Qwen2Config? config, bool asJson)
    {
        var (elements, bytes) = (tensors.Sum(t => t.Count), tensors.Sum(t => t.Bytes));
        if (!asJson)
        {
            if (config is not null)
            {
                Console.WriteLine(config.Fingerprint);
            }

            foreach (var tensor in tensors)
            {
                Console.WriteLine(tensor);
            }

            Console.WriteLine($"{tensors.Count} tensors, {elements:N0} elements, {bytes:N0} bytes");
            return;
        }

        CliJson.Write(json =>
        {
            json.WriteString("path", path);
            json.WriteString("config", config?.Fingerprint);
            json.WriteNumber("elements", elements);
            json.WriteNumber("bytes", bytes);
            json.WriteStartObject("metadata");
            foreach (var (key, value) in metadata)
            {
                json.WriteString(key, value);
            }

            json.WriteEndObject();
            json.WriteStartArray("tensors");
            foreach (var tensor in tensors)
            {
                json.WriteStartObject();
                json.WriteString("name", tensor.Name);
                json.WriteString("dtype", tensor.Dtype.HeaderName());
                json.WriteStartArray("shape");
                foreach (var extent in tensor.Shape)
                {
                    json.WriteNumberValue(extent);
                }

                json.WriteEndArray();
                json.WriteEndObject();
            }

            json.WriteEndArray();
        });
    }

    private static int Checkpoints(string directory, bool asJson)
    {
        var full = Path.TrimEndingDirectorySeparator(Path.GetFullPath(directory));
        var single = Path.GetFileName(full).StartsWith("step-", StringComparison.Ordinal);
        var store = new CheckpointStore(single ? Path.GetDirectoryName(full)! : full);
        var steps = store.Steps.Where(s => !single || Path.GetFileName(full).EndsWith($"{s:D8}", StringComparison.Ordinal)).ToList();
        if (steps.Count == 0)
        {
            throw new InvalidInputException($"{directory}: no checkpoint, model or safetensors file there");
        }

        var verdicts = steps.Select(step => (Step: step, Fault: Verify(store, step))).ToList();
        if (asJson)
        {
            CliJson.Write(json =>
            {
                json.WriteStartArray("checkpoints");
                foreach (var (step, fault) in verdicts)
                {
                    json.WriteStartObject();
                    json.WriteNumber("step", step);
                    json.WriteBoolean("verified", fault is null);
                    json.WriteString("fault", fault);
                    json.WriteEndObject();
                }

                json.WriteEndArray();
            });
        }
        else
        {
            foreach (var (step, fault) in verdicts)
            {
                Console.WriteLine(fault is null ? $"step {step}: verified, {store.Open(step).Info.ModelFingerprint}" : $"step {step}: {fault}");
            }
        }

        return verdicts.TrueForAll(v => v.Fault is null) ? 0 : 1;
    }

    private static string? Verify(CheckpointStore store, long step)
    {
        try
        {
            store.Open(step, verifyHashes: true);
            return null;
        }
        catch (InvalidInputException e)
        {
            return e.Message;
        }
    }
}
