using System.CommandLine;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 generate --model DIR PROMPT…</summary>
internal static class GenerateCommand
{
    private const int MostSlots = 64;

    public static Command Create()
    {
        var model = new Option<string>("--model") { Description = "Hugging Face directory: config.json, safetensors, tokenizer.json", Required = true };
        var prompts = new Argument<string[]>("prompts") { Description = "one completion each; standard input where there is none", Arity = ArgumentArity.ZeroOrMore };
        var chat = new Option<bool>("--chat") { Description = "the prompt is a user's turn: the checkpoint's chat template is applied" };
        var alpaca = new Option<bool>("--alpaca") { Description = "the prompt is an instruction in the published run's text" };
        var tokens = new Option<int>("--max-new-tokens") { Description = "longest completion", DefaultValueFactory = _ => 512 };
        var stops = new Option<string[]>("--stop") { Description = "a text that ends a completion (repeatable)", DefaultValueFactory = _ => [] };
        PlanCommand.Within(tokens, 1, 1_000_000);
        var temperature = new Option<double>("--temperature") { Description = "0 takes the likeliest token every time; above, tokens are drawn", DefaultValueFactory = _ => 0 };
        var topP = new Option<double>("--top-p") { Description = "draws from the likeliest tokens whose probabilities sum to this", DefaultValueFactory = _ => 1 };
        var topK = new Option<int>("--top-k") { Description = "draws from this many likeliest tokens; 0 from all", DefaultValueFactory = _ => 0 };
        var seed = new Option<ulong>("--seed") { Description = "decides what is drawn", DefaultValueFactory = _ => 0 };
        var count = new Option<int>("--n") { Description = "completions of each prompt", DefaultValueFactory = _ => 1 };
        PlanCommand.Within(temperature, 0, 100);
        PlanCommand.Within(topP, 0, 1, above: true);
        PlanCommand.Within(topK, 0, int.MaxValue);
        PlanCommand.Within(count, 1, 10_000);
        var dtype = new Option<string>("--dtype") { Description = "bf16 or fp32", DefaultValueFactory = _ => "bf16" };
        dtype.AcceptOnlyFromAmong("bf16", "fp32");
        var json = new Option<bool>("--json") { Description = "an object with prompt, text, tokens and finish reason of each" };
        var device = Devices.Option();
        var command = new Command("generate", "Completions of prompts, many at once.")
        {
            model, prompts, chat, alpaca, tokens, stops, temperature, topP, topK, seed, count, dtype, device, json,
        };
        command.Validators.Add(result =>
        {
            if (result.GetValue(chat) && result.GetValue(alpaca))
            {
                result.AddError("--chat and --alpaca are two formats of a prompt: give one");
            }
        });
        command.SetAction(parsed =>
        {
            var directory = parsed.GetValue(model)!;
            var texts = parsed.GetValue(prompts) is { Length: > 0 } given ? given : [Console.In.ReadToEnd()];
            if (texts.All(string.IsNullOrEmpty))
            {
                throw new UsageException("no prompt: give one as an argument or on standard input");
            }

            var (encoded, endTokens, tokenizer) = Encode(directory, texts, parsed.GetValue(chat), parsed.GetValue(alpaca));
            var options = new GenerateOptions(parsed.GetValue(tokens), endTokens, parsed.GetValue(stops)!);
            var sampling = new Sampling((float)parsed.GetValue(temperature), (float)parsed.GetValue(topP), parsed.GetValue(topK), parsed.GetValue(seed));
            var n = parsed.GetValue(count);
            DecodeRequest[] requests = [.. encoded.SelectMany(prompt => Enumerable.Range(0, n).Select(
                choice => new DecodeRequest { Prompt = prompt, Options = options, Sampling = sampling.OfChoice(choice) }))];
            var vocabulary = Qwen2Config.Load(directory).VocabSize;
            if (encoded.Max(p => p.Append(0).Max()) is var highest && highest >= vocabulary)
            {
                throw new InvalidInputException($"{directory}: the tokenizer gives id {highest}, the model has {vocabulary} vocabulary rows: they do not belong together");
            }

            using var stream = Devices.Open(parsed.GetValue(device)!);
            using var engine = DecodeEngine.Open(stream, directory, parsed.GetValue(dtype) == "fp32", tokenizer, new DecodeEngineOptions
            {
                Slots = Math.Min(MostSlots, requests.Length), Capacity = encoded.Max(p => p.Length) + options.MaxNewTokens + 1,
            });
            Print([.. texts.SelectMany(text => Enumerable.Repeat(text, n))], engine.Generate(requests), parsed.GetValue(json));
            return 0;
        });
        return command;
    }

    private static (int[][] Prompts, IReadOnlyList<int> EndTokens, Tokenizer Tokenizer) Encode(string directory, string[] texts, bool chat, bool alpaca)
    {
        if (!chat && !alpaca)
        {
            var tokenizer = Tokenizer.Load(directory);
            return ([.. texts.Select(t => tokenizer.Encode(t))], Qwen2Config.LoadEosTokenIds(directory), tokenizer);
        }

        var codec = PromptCodec.Load(directory, chat ? PromptFormat.Chat : PromptFormat.Alpaca);
        return ([.. texts.Select(t => codec.Prompt(t))], [codec.EndToken], codec.Tokenizer);
    }

    private static void Print(string[] prompts, Completion[] completions, bool asJson)
    {
        if (!asJson)
        {
            foreach (var completion in completions)
            {
                Console.WriteLine(completion.Text);
            }

            return;
        }

        CliJson.Write(json =>
        {
            json.WriteStartArray("completions");
            for (var i = 0; i < prompts.Length; i++)
            {
                json.WriteStartObject();
                json.WriteString("prompt", prompts[i]);
                json.WriteString("text", completions[i].Text);
                json.WriteStartArray("tokens");
                Array.ForEach(completions[i].Tokens, json.WriteNumberValue);
                json.WriteEndArray();
                json.WriteString("finish", completions[i].Finish switch
                {
                    FinishReason.EndToken => "end_token",
                    FinishReason.StopString => "stop",
                    _ => "length",
                });
                json.WriteEndObject();
            }

            json.WriteEndArray();
        });
    }
}
