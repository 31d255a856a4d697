using System.CommandLine;
using System.Globalization;
using System.Net;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Serve;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 serve --model DIR</summary>
internal static class ServeCommand
{
    public static Command Create()
    {
        var defaults = new ServeOptions();
        var model = new Option<string>("--model") { Description = "Hugging Face directory: config.json, safetensors, tokenizer.json", Required = true };
        var name = new Option<string?>("--served-name") { Description = "what requests call the model; the directory's name otherwise" };
        var host = new Option<string>("--host") { Description = "address to listen on", DefaultValueFactory = _ => defaults.Host };
        host.Validators.Add(result =>
        {
            if (result.Tokens.Count > 0 && result.Tokens[0].Value is var given && given != "localhost" && !IPAddress.TryParse(given, out var _))
            {
                result.AddError($"--host {given}: must be an address such as 127.0.0.1, 0.0.0.0 or ::1, or localhost");
            }
        });
        var port = Whole("--port", "TCP port; 0 takes any free one and prints it", 8000, 0, 65535);
        var portFile = new Option<string?>("--port-file") { Description = "file that takes the port's number once requests are answered" };
        var key = new Option<string?>("--api-key-env") { Description = "environment variable that holds the key that callers must send" };
        var slots = Whole("--slots", "sequences decoded at once", 16, 1, 4096);
        var context = Whole("--context", "longest sequence, prompt and answer, tokens; at most the model's own", 4096, 2, 10_000_000);
        var cache = Whole("--cache-tokens", "tokens that the cache holds, of all sequences; 0 gives every slot a whole context", 0, 0, int.MaxValue);
        var queue = Whole("--queue", "sequences that may wait for a slot; beyond it, 429", 256, 0, 1_000_000);
        var requests = Whole("--max-requests", "requests in flight; beyond it, 429", defaults.MaxRequests, 1, 1_000_000);
        var choices = Whole("--max-n", "completions of one prompt", defaults.MaxChoices, 1, 4096);
        var body = Whole("--max-body", "bytes of a request's body", (int)defaults.MaxBodyBytes, 1, 1 << 30);
        var timeout = Seconds("--timeout", "seconds until a request is given up with 504", defaults.TimeoutSeconds, 0.001);
        var grace = Seconds("--grace", "seconds that requests in flight get to finish after SIGTERM or Ctrl-C", defaults.GraceSeconds, 0);
        var dtype = new Option<string>("--dtype") { Description = "bf16 or fp32", DefaultValueFactory = _ => "bf16" };
        dtype.AcceptOnlyFromAmong("bf16", "fp32");
        var device = Devices.Option();
        var command = new Command("serve", "An OpenAI-compatible server of a model: /v1/chat/completions, /v1/completions, /v1/models, /health, /metrics.")
        {
            model, name, host, port, portFile, key, slots, context, cache, queue, requests, choices, body, timeout, grace, dtype, device,
        };
        command.SetAction(parsed =>
        {
            using var signal = new StopSignal();
            var directory = parsed.GetValue(model)!;
            var options = new ServeOptions
            {
                Host = parsed.GetValue(host)!, Port = parsed.GetValue(port), Key = Key(parsed.GetValue(key)),
                MaxBodyBytes = parsed.GetValue(body), MaxSequences = parsed.GetValue(slots) + parsed.GetValue(queue),
                MaxRequests = parsed.GetValue(requests), MaxChoices = parsed.GetValue(choices),
                TimeoutSeconds = parsed.GetValue(timeout), GraceSeconds = parsed.GetValue(grace),
            };
            var served = ServeModel.Load(directory, parsed.GetValue(name));
            using var stream = Devices.Open(parsed.GetValue(device)!);
            using var engine = DecodeEngine.Open(stream, directory, parsed.GetValue(dtype) == "fp32", served.Tokenizer, new DecodeEngineOptions
            {
                Slots = parsed.GetValue(slots), Capacity = parsed.GetValue(context), CacheTokens = parsed.GetValue(cache),
            });
            if (parsed.GetValue(cache) is > 0 and var held && held < engine.Capacity)
            {
                return Cli.Fail($"--cache-tokens {held}: one sequence may take {engine.Capacity}; give the cache at least as many, or lower --context");
            }

            return RunAsync(served, engine, options, parsed.GetValue(portFile), signal).GetAwaiter().GetResult();
        });
        return command;
    }

    private static async Task<int> RunAsync(ServeModel model, DecodeEngine engine, ServeOptions options, string? portFile, StopSignal signal)
    {
        await using var server = await ModelServer.StartAsync(model, engine, options);
        if (portFile is not null)
        {
            File.WriteAllText(portFile + ".part", new Uri(server.Address).Port.ToString(CultureInfo.InvariantCulture));
            File.Move(portFile + ".part", portFile, overwrite: true);
        }

        Console.WriteLine($"serve: {model.Name} at {server.Address}/v1, context {engine.Capacity} tokens"
            + (model.Template is null ? ", no chat template: only /v1/completions" : "") + (options.Key is null ? "" : ", with a key"));
        Console.Out.Flush();
        var stopped = Task.Delay(Timeout.Infinite, signal.Token);
        if (await Task.WhenAny(stopped, server.EngineFailed) == server.EngineFailed)
        {
            await server.StopAsync();
            return Cli.Fail($"the engine failed: {Cli.Sentence(await server.EngineFailed)}");
        }

        Console.WriteLine($"serve: {signal.Name}; requests in flight get {options.GraceSeconds.ToString(CultureInfo.InvariantCulture)} s");
        Console.Out.Flush();
        await server.StopAsync();
        return server.EngineFailed.IsCompleted ? Cli.Fail($"the engine failed: {Cli.Sentence(await server.EngineFailed)}") : 0;
    }

    private static string? Key(string? variable) => variable is null ? null
        : Environment.GetEnvironmentVariable(variable)?.Trim() is { Length: > 0 } key ? key
        : throw new InvalidInputException($"--api-key-env: the environment variable {variable} is not set, or empty");

    private static Option<int> Whole(string name, string description, int value, int least, int most)
    {
        var option = new Option<int>(name) { Description = description, DefaultValueFactory = _ => value };
        PlanCommand.Within(option, least, most);
        return option;
    }

    private static Option<double> Seconds(string name, string description, double value, double least)
    {
        var option = new Option<double>(name) { Description = description, DefaultValueFactory = _ => value };
        CurateOptions.AtLeast(option, least);
        return option;
    }
}
