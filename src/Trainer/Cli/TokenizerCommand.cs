using System.CommandLine;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 tokenizer train|encode|decode</summary>
internal static class TokenizerCommand
{
    public const int LeastVocabulary = 257, MostVocabulary = Tokenizer.MaximumId / 2;      // all bytes, and one merge

    public static Command Create() => new(
        "tokenizer",
        """
        Byte-level BPE in Hugging Face's tokenizer.json format.

          z1 tokenizer train stage1.jsonl stage2.jsonl --vocabulary 1024 --out tokenizer
          z1 tokenizer encode --model tokenizer "def f(x):" --json
          z1 tokenizer decode --model tokenizer 268 320
        """) { Train(), Encode(), Decode() };

    private static Command Train()
    {
        var files = new Argument<string[]>("files") { Description = "SFT files (JSON, JSONL, .gz) or plain text files", Arity = ArgumentArity.OneOrMore };
        var output = new Option<string>("--out") { Description = "directory for tokenizer.json and tokenizer_config.json", Required = true };
        var size = new Option<int>("--vocabulary") { Description = "tokens before the special ones", DefaultValueFactory = _ => 2048 };
        PlanCommand.Within(size, LeastVocabulary, MostVocabulary);
        var command = new Command("train", "Learns merges from the text of the files; adds the chat tokens and template of Qwen2.5.") { files, output, size };
        command.SetAction(parsed =>
        {
            ChatTokenizer.Train(parsed.GetValue(files)!, parsed.GetValue(size), parsed.GetValue(output)!);
            Console.WriteLine(parsed.GetValue(output));
            return 0;
        });
        return command;
    }

    private static Command Encode()
    {
        var model = ModelOption();
        var text = new Argument<string?>("text") { Description = "the text; standard input where absent", DefaultValueFactory = _ => null };
        var json = new Option<bool>("--json") { Description = "ids and tokens as JSON" };
        var command = new Command("encode", "Text to token ids.") { text, model, json };
        command.SetAction(parsed =>
        {
            var tokenizer = Tokenizer.Load(parsed.GetValue(model)!);
            var ids = tokenizer.Encode(parsed.GetValue(text) ?? Console.In.ReadToEnd());
            if (!parsed.GetValue(json))
            {
                Console.WriteLine(string.Join(' ', ids));
                return 0;
            }

            CliJson.Write(
                writer =>
                {
                    writer.WriteStartArray("ids");
                    Array.ForEach(ids, writer.WriteNumberValue);
                    writer.WriteEndArray();
                    writer.WriteStartArray("tokens");
                    Array.ForEach(ids, id => writer.WriteStringValue(tokenizer.TokenOf(id)));
                    writer.WriteEndArray();
                },
                indented: false);
            return 0;
        });
        return command;
    }

    private static Command Decode()
    {
        var model = ModelOption();
        var ids = new Argument<int[]>("ids") { Description = "token ids", Arity = ArgumentArity.OneOrMore };
        var skip = new Option<bool>("--skip-special") { Description = "leave special tokens out" };
        var command = new Command("decode", "Token ids to text.") { ids, model, skip };
        command.SetAction(parsed =>
        {
            var tokenizer = Tokenizer.Load(parsed.GetValue(model)!);
            var given = parsed.GetValue(ids)!;
            foreach (var id in given.Where(id => (uint)id >= (uint)tokenizer.VocabularySize))
            {
                throw new InvalidInputException($"{id} is no token: the vocabulary has {tokenizer.VocabularySize}");
            }

            Console.WriteLine(tokenizer.Decode(given, parsed.GetValue(skip)));
            return 0;
        });
        return command;
    }

    private static Option<string> ModelOption() =>
        new("--model") { Description = "a model directory or a tokenizer.json", Required = true };
}
